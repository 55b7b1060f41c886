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

host() { echo "$HOST_PREFIX$1$HOST_SUFFIX"; }

# ordinals N: 0 1 .. N-1
ordinals() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) print i }' </dev/null; }

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
  on_pod=$1
  shift
  at "$(host "$on_pod")" "$@"
}

# piped ORDINAL: the commands on stdin, a line each, over one connection.
piped() { bounded valkey-cli -e -h "$(host "$1")" -p "$PORT"; }

# wait_for SECONDS CONDITION ARGS...: polls until the condition holds. What a failing condition prints is what
# it is waiting for; that is logged while it lasts, and is the reason when time is up. A condition that cannot
# come true any more returns 2, which ends the waiting at once.
wait_for() {
  wait_limit=$1
  shift
  wait_start=$(date +%s)
  wait_reported=$wait_start
  while :; do
    wait_reason=$("$@")
    case $? in
      0) return 0 ;;
      2) die "$wait_reason" ;;
    esac
    wait_now=$(date +%s)
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

# Condition: the pod answers PONG.
answers() {
  answer=$(on "$1" PING) && [ "$answer" = PONG ] && return 0
  echo "pod $(pod "$1") to answer PING, last answer: $(printf '%s' "$answer" | head -n 1)"
  return 1
}

# field NAME: the value of "NAME:value" on stdin (CLUSTER INFO, INFO).
field() { awk -F '[:\r]' -v name="$1" '$1 == name { print $2; exit }'; }

# node_id ORDINAL
node_id() { on "$1" CLUSTER MYID | head -n 1; }

# address ORDINAL: "ip port busport" as the node announces itself; CLUSTER MEET takes no names.
address() {
  on "$1" CLUSTER NODES | awk '/myself/ { split($2, a, "[,@]"); port = a[1]; sub(/.*:/, "", port); ip = a[1]
    sub(/:[^:]*$/, "", ip); print ip, port, a[2]; exit }'
}

# meet A B: A learns of B.
meet() {
  meet_at=$(address "$2")
  [ "${meet_at%% *}" != "" ] || return 1
  # shellcheck disable=SC2086 # three words
  on "$1" CLUSTER MEET $meet_at >/dev/null
}

# Conditions over the pods 0..N-1, each asked for its own view, over one connection for all questions.

# ask_all N: for each pod a line "pod NAME" and what it says of the nodes, the cluster and its replication.
ask_all() {
  for i in $(ordinals "$1"); do
    echo "pod $HOST_PREFIX$i"
    printf 'CLUSTER NODES\nCLUSTER INFO\nINFO replication\n' | piped "$i" 2>&1
  done
}

# judge N PROMISES: reads these answers, prints the first promise that a pod's view breaks, and then fails.
#   knows  the view holds exactly N nodes, none of them in handshake, failed, without address or out of touch
#   ok     cluster_state:ok, with all slots assigned and reachable
#   links  a replica's link to its primary is up
judge() {
  awk -v n="$1" -v promises="$2" '
    function broken(what) { print what; failed = 1; exit 1 }
    function verdict() {
      if (pod == "") return
      if (state == "") broken("pod " pod " to answer CLUSTER INFO: " first)
      if (promises ~ /knows/ && nodes != n) broken("every pod to know " n " nodes: pod " pod " knows " nodes + 0 " nodes")
      if (promises ~ /knows/ && bad != "") broken("every pod to know " n " nodes: pod " pod " sees" bad)
      if (promises ~ /ok/ && (state != "ok" || slots != 16384))
        broken("cluster_state:ok on pod " pod ", which says " state " with " slots " of 16384 slots ok")
      if (promises ~ /links/ && role == "slave" && link != "up")
        broken("the replication link of pod " pod " to be up, it is " link)
    }
    $1 == "pod" && NF == 2 { verdict(); asked++; pod = $2; nodes = 0; bad = state = slots = role = link = first = ""; next }
    { sub(/\r$/, "") }
    first == "" { first = $0 }
    NF >= 8 && length($1) == 40 { nodes++; flags = "," $3 ","
      if (flags ~ /,(handshake|fail|fail\?|noaddr),/) bad = bad " " $2 "(" $3 ")"
      else if ($8 != "connected") bad = bad " " $2 "(link " $8 ")" }
    /^cluster_state:/ { state = substr($0, 15) }
    /^cluster_slots_ok:/ { slots = substr($0, 18) }
    /^role:/ { role = substr($0, 6) }
    /^master_link_status:/ { link = substr($0, 20) }
    END { if (failed) exit 1; verdict()
      # Without answers nothing is broken, and nothing is shown either.
      if (asked != n) broken("all " n " pods to be asked, " asked + 0 " were") }'
}

knows_all() { ask_all "$1" | judge "$1" knows; }

all_ok() { ask_all "$1" | judge "$1" ok; }

links_up() { ask_all "$1" | judge "$1" links; }

# whole N: every pod knows every other and says ok, and every replica is linked.
whole() { ask_all "$1" | judge "$1" 'knows ok links'; }
