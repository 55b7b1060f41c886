# Functions that change the shape of a running cluster: who is in it, who serves which slots, who replicates whom.
# Used by the scale Job and the drain Job. All of them look before they act, so that a Job killed anywhere can be
# run again.

# tell_all N: what all pods say (ask_all), or the first of them that says nothing, and then fails.
tell_all() {
  told=$(ask_all "$1")
  untold=$(printf '%s\n' "$told" | judge "$1" '') || { echo "$untold"; return 1; }
  printf '%s\n' "$told"
}

# survey N SEED: one line for each node that pod SEED knows:
#   ordinal id primary|replica primary-id slots ranges ip flags
# with ordinal "-" for nodes that are none of the pods 0..N-1, and "-" for no ranges.
survey() {
  surveyed=$(tell_all "$1") || die "$surveyed"
  printf '%s\n' "$surveyed" | tabulate "$2"
}

# tabulate SEED: the lines of a survey from what all pods say; with no SEED, what any of them knows.
tabulate() {
  awk -v seed="$1" '
    $1 == "pod" && NF == 3 { pod = $3; next }
    NF >= 8 && length($1) == 40 {
      sub(/\r$/, "")
      if ($3 ~ /myself/) ordinal[$1] = pod
      if ((seed == "" || pod == seed) && $3 !~ /handshake/) row[++rows] = $0 }
    END {
      for (k = 1; k <= rows; k++) {
        fields = split(row[k], v, " ")
        slots = 0; ranges = ""
        for (f = 9; f <= fields; f++) if (v[f] !~ /^\[/) {
          n = split(v[f], r, "-"); slots += (n > 1 ? r[2] : r[1]) - r[1] + 1; ranges = ranges (ranges == "" ? "" : ",") v[f] }
        split(v[2], a, "@"); ip = a[1]; sub(/:[^:]*$/, "", ip)
        print (v[1] in ordinal ? ordinal[v[1]] : "-"), v[1], (v[3] ~ /slave|replica/ ? "replica" : "primary"), v[4], slots,
          (ranges == "" ? "-" : ranges), (ip == "" ? "-" : ip), v[3] } }' | sort -n
}

# settled N: nothing is moving and everyone agrees, so something may be moved.
settled() { ask_all "$1" | judge "$1" 'still agree'; }

# movable N: settled, and every pod says ok: a newcomer refuses keys until it does.
movable() { ask_all "$1" | judge "$1" 'still agree ok'; }

# at_rest N: condition; settled, with nothing left half done: a classical migration that was killed is completed here.
# Atomic migrations leave nothing behind. Tried again while it fails, as a node that has just joined refuses keys.
at_rest() {
  told=$(ask_all "$1")
  printf '%s\n' "$told" | judge "$1" still || return 1
  half_done=$(printf '%s\n' "$told" | awk '$1 == "pod" && NF == 3 { pod = $3 } NF >= 9 && $3 ~ /myself/ && / \[/ { print pod }')
  for i in $half_done; do
    answer=$(CALL_SECONDS=$TIMEOUT_SECONDS && bounded valkey-cli --cluster fix "$HOST_PREFIX$i$HOST_SUFFIX:$PORT" 2>&1 </dev/null) && continue
    echo "the open slots of pod $(pod "$i") to be closed, last answer: $(printf '%s\n' "$answer" | grep ERR | tail -n 1)"
    return 1
  done
  [ -z "$half_done" ] || told=$(ask_all "$1")
  printf '%s\n' "$told" | judge "$1" agree
}

# plan_moves TARGETS: reads a survey, prints "from to range..." that give each of the TARGETS (IDs) an equal share
# of the slots and everybody else none. Shares differ by one slot at most; a target that has the larger share
# already keeps it.
plan_moves() {
  awk -v targets="$1" '
    BEGIN { p = split(targets, t, " "); for (k = 1; k <= p; k++) target[t[k]] = 1 }
    $5 > 0 || ($2 in target) { n++; id[n] = $2; have[n] = $5; ranges[n] = $6 }
    END {
      larger = 16384 % p
      for (k = 1; k <= n; k++) share[k] = 0
      for (round = 1; round <= p; round++) {
        best = 0
        for (k = 1; k <= n; k++) if ((id[k] in target) && !(k in placed) && (!best || have[k] > have[best])) best = k
        placed[best] = 1; share[best] = int(16384 / p) + (round <= larger ? 1 : 0)
      }
      to = 1
      for (k = 1; k <= n; k++) {
        surplus = have[k] - share[k]
        if (surplus <= 0) continue
        count = split(ranges[k], r, ",")
        # From the end, so that what remains stays in one piece.
        for (f = count; f >= 1 && surplus > 0; f--) {
          m = split(r[f], e, "-"); first = e[1] + 0; last = (m > 1 ? e[2] : e[1]) + 0
          while (surplus > 0 && last >= first) {
            while (to <= n && have[to] >= share[to]) to++
            take = share[to] - have[to]
            if (take > surplus) take = surplus
            if (take > last - first + 1) take = last - first + 1
            key = id[k] " " id[to]
            move[key] = move[key] " " (last - take + 1) "-" last
            have[to] += take; have[k] -= take; surplus -= take; last -= take
          }
        }
      }
      for (key in move) print key move[key]
    }' | sort
}

# move FROM-IP FROM TO RANGES...: moves slots, atomically where the server can (9.0 and later).
move() {
  move_ip=$1 move_from=$2 move_to=$3
  shift 3
  slots=$(echo "$*" | sed 's/-/ /g')
  # shellcheck disable=SC2086 # a list of bounds
  answer=$(at "$move_ip" CLUSTER MIGRATESLOTS SLOTSRANGE $slots NODE "$move_to") && {
    log "moving the slots $* from $move_from to $move_to"
    wait_for "$TIMEOUT_SECONDS" migrated "$move_ip" "$move_to" "$@"
    return 0
  }
  case $answer in
    *[Uu]"nknown subcommand"*) reshard "$move_ip" "$move_from" "$move_to" "$@" ;;
    *) die "the slots $* could not be moved from $move_from to $move_to: $answer" ;;
  esac
}

# migrated IP TO RANGES...: the node at IP sees TO serve all of the slots. A migration that failed is the Job's
# failure, never a warning.
migrated() {
  migrated_ip=$1 migrated_to=$2
  shift 2
  progress=$(on_the_move "$migrated_ip" | awk -v to="$migrated_to" -v wanted="$*" '
    first == "" { first = $0 }
    NF >= 8 && length($1) == 40 { answered = 1 }
    $1 == to { for (f = 9; f <= NF; f++) { n = split($f, e, "-"); for (s = e[1] + 0; s <= (n > 1 ? e[2] : e[1]) + 0; s++) has[s] = 1 } }
    previous == "target_node" { here = ($0 == to) }
    previous == "state" && here { state = $0; if (state !~ /^(success|failed|cancel)/) running = state }
    previous == "message" && here && state ~ /^(failed|cancel)/ { failed = state " " $0 }
    { previous = $0 }
    END {
      if (!answered) { print "? " first; exit }
      n = split(wanted, w, " "); for (k = 1; k <= n; k++) { split(w[k], e, "-"); for (s = e[1] + 0; s <= e[2] + 0; s++) left += !(s in has) }
      print left + 0, (running != "" ? running : failed) }')
  case $progress in
    "0 "*) return 0 ;;
    "? "*) echo "the node at $migrated_ip to answer: ${progress#* }"; return 1 ;;
  esac
  echo "the migration of slots $* from $migrated_ip to $migrated_to, ${progress%% *} of them left: ${progress#* }"
  case ${progress#* } in failed* | cancel*) return 2 ;; *) return 1 ;; esac
}

# on_the_move IP: the nodes and the slot migrations that the node at IP knows of.
on_the_move() {
  bounded valkey-cli -e -h "$1" -p "$PORT" 2>&1 <<EOF
CLUSTER NODES
CLUSTER GETSLOTMIGRATIONS
EOF
}

# reshard IP FROM TO RANGES...: the same number of slots, by the classical way.
reshard() {
  reshard_ip=$1 reshard_from=$2 reshard_to=$3
  shift 3
  count=$(echo "$*" | awk '{ for (f = 1; f <= NF; f++) { split($f, e, "-"); n += e[2] - e[1] + 1 } print n }')
  log "moving $count slots from $reshard_from to $reshard_to, key by key"
  answer=$(CALL_SECONDS=$TIMEOUT_SECONDS && bounded valkey-cli --cluster reshard "$reshard_ip:$PORT" --cluster-from "$reshard_from" \
    --cluster-to "$reshard_to" --cluster-slots "$count" --cluster-yes 2>&1 </dev/null) ||
    die "resharding failed: $(printf '%s\n' "$answer" | tail -n 3)"
}

# rebalance N SEED TARGETS: moves slots until each of TARGETS has its share and nobody else any.
rebalance() {
  round=0
  wait_for "$TIMEOUT_SECONDS" movable "$1"
  while :; do
    table=$(survey "$1" "$2") || exit 1
    moves=$(printf '%s\n' "$table" | plan_moves "$3")
    [ -n "$moves" ] || return 0
    round=$((round + 1))
    [ "$round" -le 5 ] || die "the slots are still not balanced after 5 rounds"
    while read -r from to ranges; do
      ip=$(printf '%s\n' "$table" | awk -v id="$from" '$2 == id { print $7 }')
      # shellcheck disable=SC2086 # a list of ranges
      move "$ip" "$from" "$to" $ranges
      wait_for "$TIMEOUT_SECONDS" movable "$1"
    done <<EOF
$moves
EOF
  done
}

# plan_replicas P R TARGETS: reads a survey of pods, prints "ordinal primary-id" for each replica to be moved.
#
# Each of the pods 0..P-1 goes to a shard of its own. That is what makes every later scale-down to P pods or more
# safe even without draining: whichever higher pods leave, each shard keeps one. Beyond that each shard gets R
# replicas, and what is left over is spread; a replica that is well placed stays.
plan_replicas() {
  awk -v p="$1" -v r="$2" -v targets="$3" '
    BEGIN { n = split(targets, t, " "); for (k = 1; k <= n; k++) shard[t[k]] = 1 }
    $2 in shard { if ($1 != "-" && $1 < p) low[$2] = 1; next }
    # Serves slots that are still to be moved; its replicas stay with it until then.
    $5 > 0 { draining[$2] = 1; next }
    $1 != "-" { c++; candidate[c] = $1; follows[c] = $4 }
    function assign(k, s) { now[k] = s; count[s]++; if (ord[k] < p) low[s] = 1 }
    END {
      for (k = 1; k <= c; k++) if (!(follows[k] in draining)) {
        m++; ord[m] = candidate[k]; was[m] = (follows[k] in shard) ? follows[k] : "" }
      for (k = 1; k <= m; k++) if (ord[k] < p && was[k] != "" && !low[was[k]]) assign(k, was[k])
      for (k = 1; k <= m; k++) if (ord[k] < p && !(k in now))
        for (j = 1; j <= n; j++) if (!low[t[j]]) { assign(k, t[j]); break }
      for (k = 1; k <= m; k++) if (!(k in now) && was[k] != "" && count[was[k]] < r) assign(k, was[k])
      spare = m - n * r
      for (k = 1; k <= m; k++) if (!(k in now)) {
        best = ""
        for (j = 1; j <= n; j++) if (best == "" || count[t[j]] < count[best] + 0) best = t[j]
        if (was[k] != "" && count[was[k]] <= count[best] && spare > 0) best = was[k]
        assign(k, best)
      }
      # Newcomers first: a shard gets its new replica before it gives the old one away.
      for (k = 1; k <= m; k++) if (was[k] == "" && now[k] != "") print ord[k], now[k]
      for (k = 1; k <= m; k++) if (was[k] != "" && now[k] != was[k]) print ord[k], now[k]
    }'
}

# replicates ORDINAL PRIMARY: condition; asks for it as long as it is not so.
replicates() {
  current=$(on "$1" CLUSTER NODES | awk '/myself/ { print $4; exit }')
  [ "$current" = "$2" ] && return 0
  answer=$(on "$1" CLUSTER REPLICATE "$2")
  echo "pod $(pod "$1") to become a replica of $2, last answer: $answer"
  return 1
}

# linked ORDINAL: condition; the replica's link to its primary is up.
linked() {
  link=$(on "$1" INFO replication | field master_link_status)
  [ "$link" = up ] && return 0
  echo "the replication link of pod $(pod "$1") to be up, it is $link"
  return 1
}

# place_replicas N SEED TARGETS: carries out plan_replicas, one replica at a time, each linked before the next.
place_replicas() {
  table=$(survey "$1" "$2") || exit 1
  p=$(echo "$3" | awk '{ print NF }')
  plan=$(printf '%s\n' "$table" | plan_replicas "$p" "$REPLICAS_PER_PRIMARY" "$3")
  [ -n "$plan" ] || return 0
  while read -r ordinal primary; do
    log "pod $(pod "$ordinal") becomes a replica of $primary"
    wait_for "$TIMEOUT_SECONDS" replicates "$ordinal" "$primary"
    wait_for "$TIMEOUT_SECONDS" linked "$ordinal"
  done <<EOF
$plan
EOF
}

# choose_targets P: reads a survey, prints the IDs of the pods that are to serve slots: those that do, the lowest
# ordinals first, then empty primaries. Pods only: what leaves serves nothing.
choose_targets() {
  awk -v p="$1" '
    $1 != "-" && $3 == "primary" { if ($5 > 0) serving[++s] = $2; else empty[++e] = $2 }
    END {
      for (k = 1; k <= s && chosen < p; k++) { printf "%s ", serving[k]; chosen++ }
      for (k = 1; k <= e && chosen < p; k++) { printf "%s ", empty[k]; chosen++ }
    }'
}

# as_wanted N P: everything is as it would be made for N pods and P primaries, told from one round of questions: most
# upgrades change no number.
as_wanted() {
  told=$(ask_all "$1")
  printf '%s\n' "$told" | judge "$1" 'still agree knows ok links' >/dev/null || return 1
  # All agree, so that one speaks for all.
  table=$(printf '%s\n' "$told" | tabulate 0)
  targets=$(printf '%s\n' "$table" | choose_targets "$2")
  [ "$(echo "$targets" | awk '{ print NF }')" = "$2" ] || return 1
  [ -z "$(printf '%s\n' "$table" | plan_moves "$targets")" ] || return 1
  [ -z "$(printf '%s\n' "$table" | plan_replicas "$2" "$REPLICAS_PER_PRIMARY" "$targets")" ]
}

# spare_replicas R N: reads a survey, prints the ordinals of at most N replicas beyond R of their primary, the highest first.
spare_replicas() {
  awk -v r="$1" -v n="$2" '
    $1 != "-" && $3 == "replica" { c++; ordinal[c] = $1; of[c] = $4; count[$4]++ }
    END { for (k = c; k >= 1 && told < n; k--) if (count[of[k]] > r) { count[of[k]]--; told++; print ordinal[k] } }'
}

# strangers N: "id ip slots" of all nodes that any of the pods 0..N-1 knows beside them.
strangers() {
  known_by_all=$(tell_all "$1") || { echo "$known_by_all" >&2; return 1; }
  printf '%s\n' "$known_by_all" | tabulate '' | awk '
    $1 == "-" { if (!($2 in ip) || $7 != "-") ip[$2] = $7; if ($5 > slots[$2] + 0) slots[$2] = $5 }
    END { for (id in ip) print id, ip[id], slots[id] + 0 }' | sort
}

# forget N ID: every pod forgets the node. Asked of every pod within the ban of 60 s: one that still knew it would
# bring it back to all the others.
forget() {
  for i in $(ordinals "$1"); do
    answer=$(on "$i" CLUSTER FORGET "$2") || case $answer in
      *"nknown node"*) ;;
      *) echo "pod $(pod "$i") to forget $2, last answer: $answer"; return 1 ;;
    esac
  done
}

# seed N: the pod that most pods know, and that serves with the most slots; "" if none knows another. Unlike pod 0 it is
# never a newcomer. Nor a pod that comes back with what it knew in an earlier life: it remembers everybody, but they have
# forgotten it.
seed() {
  ask_all "$1" | awk -v n="$1" '
    function better(p, q) {
      if (known_by[id[p]] != known_by[id[q]]) return known_by[id[p]] > known_by[id[q]]
      return slots[p] != slots[q] ? slots[p] > slots[q] : knows[p] > knows[q] }
    $1 == "pod" && NF == 3 { pod = $3; next }
    { sub(/\r$/, "") }
    NF >= 8 && length($1) == 40 && $3 !~ /handshake|noaddr/ { known_by[$1]++; if ($3 ~ /myself/) id[pod] = $1 }
    /^cluster_slots_assigned:/ { slots[pod] = substr($0, 24) + 0 }
    /^cluster_known_nodes:/ { knows[pod] = substr($0, 21) + 0 }
    END { for (p = 0; p < n; p++) if (knows[p] > 1 && (best == "" || better(p, best))) best = p
      print best }'
}

# refused ORDINAL: the pod runs, but with another password.
refused() { case $(on "$1" PING) in *NOAUTH* | *WRONGPASS*) return 0 ;; esac; return 1; }

# Condition: the pod answers PONG.
answers() {
  answer=$(on "$1" PING) && [ "$answer" = PONG ] && return 0
  echo "pod $(pod "$1") to answer PING, last answer: $(printf '%s' "$answer" | head -n 1)"
  return 1
}

# running ORDINAL: condition; the pod answers, be it with a refusal.
running() { refused "$1" || answers "$1"; }

# run_all N: condition; every pod answers, be it with a refusal.
run_all() { ask_all "$1" | judge "$1" runs; }
