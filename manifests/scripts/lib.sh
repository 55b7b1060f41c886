# Shared by the cluster's scripts; put in front of each of them at build time.
#
# Environment: ordinal i is the host $HOST_PREFIX$i$HOST_SUFFIX; PORT, BUS_PORT, NODE_TIMEOUT_MS; in the Jobs also
# REPLICAS, REPLICAS_PER_PRIMARY and TIMEOUT_SECONDS. The password, if any, is in REDISCLI_AUTH, where valkey-cli looks for it; it
# is never an argument. Needs valkey-cli, grep, sed, awk, sort, cat, head, date and sleep, and a POSIX sh.
#
# The kubelet expands dollar signs before the shell does: no process ID variable, no bare name in a substitution.
set -u

# One call takes this long at most: a server that is stopped, or behind a partition, would hang it for ever.
CALL_SECONDS=${CALL_SECONDS:-10}
# How often a condition is looked at while it does not hold.
POLL_SECONDS=${POLL_SECONDS:-0.3}
# How often the log says what is still being waited for.
REPORT_SECONDS=${REPORT_SECONDS:-5}

log() { echo "$*"; }

die() {
  echo "FAILED: $*" >&2
  exit 1
}

pod() { echo "$HOST_PREFIX$1"; }

# ordinals N: 0 1 .. N-1
ordinals() {
  ordinal=0
  while [ "$ordinal" -lt "$1" ]; do
    echo "$ordinal"
    ordinal=$((ordinal + 1))
  done
}

# Runs a command for at most CALL_SECONDS, with and without coreutils' timeout.
bounded() {
  if command -v timeout >/dev/null 2>&1; then
    timeout "$CALL_SECONDS" "$@"
    return
  fi
  # A job in the background would read nothing from stdin unless told so.
  "$@" <&0 &
  bounded_pid=$!
  (
    trap 'kill "$nap" 2>/dev/null; exit 0' TERM
    sleep "$CALL_SECONDS" &
    nap=$!
    wait "$nap"
    kill "$bounded_pid" 2>/dev/null
  ) >/dev/null 2>&1 &
  bounded_guard=$!
  wait "$bounded_pid"
  bounded_code=$?
  kill "$bounded_guard" 2>/dev/null
  wait "$bounded_guard" 2>/dev/null
  return "$bounded_code"
}

# at HOST COMMAND...: one command, its answer on stdout. An error answer is exit code 1.
# That the server wants no password, or another one, shows in the answer itself; the client's own remark does not
# belong to it.
at() {
  at_host=$1
  shift
  at_answer=$(bounded valkey-cli -e -h "$at_host" -p "$PORT" "$@" 2>&1 </dev/null)
  at_code=$?
  # Nearly every answer goes on as it is; the shell does that without another process.
  case $at_answer in
    *'AUTH failed'*) printf '%s\n' "$at_answer" | sed '/^AUTH failed/d' ;;
    *) printf '%s\n' "$at_answer" ;;
  esac
  return "$at_code"
}

# on ORDINAL COMMAND...: the same, for a pod.
on() {
  on_host=$HOST_PREFIX$1$HOST_SUFFIX
  shift
  at "$on_host" "$@"
}

# piped ORDINAL: the commands on stdin, a line each, over one connection.
piped() { bounded valkey-cli -e -h "$HOST_PREFIX$1$HOST_SUFFIX" -p "$PORT"; }

# wait_for SECONDS CONDITION ARGS...: polls until the condition holds. What a failing condition prints is what
# it is waiting for; that is logged while it lasts, and is the reason when time is up. A condition that cannot
# come true any more returns 2, which ends the waiting at once.
wait_for() {
  wait_limit=$1
  shift
  wait_start=
  while :; do
    wait_reason=$("$@")
    case $? in
      0) return 0 ;;
      2) die "$wait_reason" ;;
    esac
    wait_now=$(date +%s)
    [ -n "$wait_start" ] || { wait_start=$wait_now && wait_reported=$wait_now; }
    if [ $((wait_now - wait_start)) -ge "$wait_limit" ]; then
      die "gave up after $wait_limit s: $wait_reason"
    fi
    if [ $((wait_now - wait_reported)) -ge "$REPORT_SECONDS" ]; then
      log "still waiting after $((wait_now - wait_start)) s: $wait_reason"
      wait_reported=$wait_now
    fi
    sleep "$POLL_SECONDS"
  done
}

# field NAME: the value of "NAME:value" on stdin (CLUSTER INFO, INFO).
field() { awk -F '[:\r]' -v name="$1" '$1 == name { print $2; exit }'; }

# node_id ORDINAL
node_id() { on "$1" CLUSTER MYID | head -n 1; }

# own_address ORDINAL: "ip port busport" as the pod announces itself, from what all pods say; CLUSTER MEET takes no names.
own_address() {
  awk -v wanted="$1" '
    $1 == "pod" && NF == 3 { pod = $3 }
    pod == wanted && NF >= 8 && $3 ~ /myself/ {
      split($2, a, "[,@]"); port = a[1]; sub(/.*:/, "", port); ip = a[1]; sub(/:[^:]*$/, "", ip); print ip, port, a[2]; exit }'
}

# meet A B: A learns of B.
meet() {
  meet_at=$({ echo "pod $(pod "$2") $2" && on "$2" CLUSTER NODES; } | own_address "$2")
  [ "${meet_at%% *}" != "" ] || return 1
  # shellcheck disable=SC2086 # three words
  on "$1" CLUSTER MEET $meet_at >/dev/null
}

# Conditions over the pods 0..N-1, each asked for its own view, over one connection for all questions: starting a
# process costs more than everything that a pod has to say, and a cluster is looked at many times.

# ask_all N: for each pod a line "pod NAME ORDINAL" and then all that it says. Servers before 9.0 answer the last
# question with an error. One limit for all: bounding each call would be another process for each pod. A pod that hangs
# is the last that is asked, and what it lacks is what is found missing.
ask_all() {
  if command -v timeout >/dev/null 2>&1; then
    timeout "$CALL_SECONDS" sh -c "$ASK_EACH" ask_all "$1" "$HOST_PREFIX" "$HOST_SUFFIX" "$PORT"
    return
  fi
  for i in $(ordinals "$1"); do
    echo "pod $HOST_PREFIX$i $i"
    echo "$QUESTIONS" | piped "$i" 2>&1
  done
}
QUESTIONS='PING
CLUSTER NODES
CLUSTER INFO
INFO replication
CLUSTER GETSLOTMIGRATIONS'
# shellcheck disable=SC2016 # for the shell that runs it
ASK_EACH='i=0; while [ "$i" -lt "$1" ]; do
  echo "pod $2$i $i"
  valkey-cli -e -h "$2$i$3" -p "$4" 2>&1 <<EOF
'$QUESTIONS'
EOF
  i=$((i + 1))
done'

# judge N PROMISES: reads these answers, prints the first promise that a pod's view breaks, and then fails.
#   runs     the pod answers, be it with a refusal of the password
#   answers  it answers PONG
#   knows    the view holds exactly N nodes, none of them in handshake, failed, without address or out of touch
#   ok       cluster_state:ok, with all slots assigned and reachable
#   links    a replica's link to its primary is up
#   still    no atomic slot migration is under way
#   agree    the view holds all the pods, names the same owner for each slot as the others', and has no slot in between
# All but "runs" need a pod that answers CLUSTER INFO, and so does no promise at all.
judge() {
  awk -v n="$1" -v promises="$2" '
    function broken(what) { print what; failed = 1; exit 1 }
    function verdict(id) {
      if (pod == "") return
      if (promises ~ /runs/) { if (said !~ /^PONG|NOAUTH|WRONGPASS/) broken("pod " pod " to answer PING, last answer: " said); return }
      if (promises ~ /answers/ && said != "PONG") broken("pod " pod " to answer PING, last answer: " said)
      if (state == "") broken("pod " pod " to answer CLUSTER INFO: " (error == "" ? said : error))
      if (promises ~ /knows/ && nodes != n) broken("every pod to know " n " nodes: pod " pod " knows " nodes + 0 " nodes")
      if (promises ~ /knows/ && bad != "") broken("every pod to know " n " nodes: pod " pod " sees" bad)
      if (promises ~ /ok/ && (state != "ok" || slots != 16384))
        broken("cluster_state:ok on pod " pod ", which says " state " with " slots " of 16384 slots ok")
      if (promises ~ /links/ && role == "slave" && link != "up")
        broken("the replication link of pod " pod " to be up, it is " link)
      if (promises ~ /still/ && moving != "") broken("the slot migration of pod " pod " to end, it is " moving)
      if (promises ~ /agree/) {
        if (open) broken("no slot to be open on pod " pod)
        if (owners != count[1]) broken("pod " pod " to agree on the slots with pod " name[1])
        for (id in map) if (map[id] != first_map[id]) broken("pod " pod " to agree on the slots with pod " name[1])
      }
    }
    $1 == "pod" && NF == 3 {
      verdict(); pod = $2; name[++asked] = pod
      nodes = open = owners = 0; bad = state = slots = role = link = said = error = moving = ""; split("", map); next }
    { sub(/\r$/, "") }
    # The client remarks on a password that the server does not want or take; the answer itself follows.
    /^AUTH failed/ { next }
    said == "" { said = $0 }
    error == "" && /^[A-Z]+ / && NF > 1 && !/^PONG/ { error = $0 }
    NF >= 8 && length($1) == 40 { nodes++; flags = "," $3 ","
      if (flags ~ /,(handshake|fail|fail\?|noaddr),/) bad = bad " " $2 "(" $3 ")"
      else if ($8 != "connected") bad = bad " " $2 "(link " $8 ")"
      if (flags ~ /,myself,/) self[asked] = $1
      if (flags !~ /,(handshake|noaddr),/) seen[asked, $1] = 1
      if (/ \[/) open = 1
      if (NF >= 9) { owners++
        for (f = 9; f <= NF; f++) map[$1] = map[$1] " " $f
        if (asked == 1) { first_map[$1] = map[$1]; count[1] = owners } } }
    /^cluster_state:/ { state = substr($0, 15) }
    /^cluster_slots_ok:/ { slots = substr($0, 18) }
    /^role:/ { role = substr($0, 6) }
    /^master_link_status:/ { link = substr($0, 20) }
    previous == "state" && !/^(success|failed|cancell?ed)$/ { moving = $0 }
    { previous = $0 }
    END { if (failed) exit 1; verdict()
      # Without answers nothing is broken, and nothing is shown either.
      if (asked != n) broken("all " n " pods to be asked, " asked + 0 " were")
      if (promises ~ /agree/) for (a = 1; a <= n; a++) for (b = 1; b <= n; b++)
        if (!((a, self[b]) in seen)) broken("pod " name[a] " to know pod " name[b]) }'
}

answer_all() { ask_all "$1" | judge "$1" answers; }

knows_all() { ask_all "$1" | judge "$1" knows; }

links_up() { ask_all "$1" | judge "$1" links; }

# whole N: every pod knows every other and says ok, and every replica is linked.
whole() { ask_all "$1" | judge "$1" 'knows ok links'; }
