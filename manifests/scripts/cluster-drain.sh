# Before an upgrade that removes pods: moves their slots to pods that stay, gives these their replicas, and takes
# the departing nodes out of the cluster, so that deleting their pods takes nothing with it. Does nothing when no
# pod departs. Departing are the cluster's nodes that are none of the pods 0..REPLICAS-1.

primaries_wanted=$((REPLICAS / (1 + REPLICAS_PER_PRIMARY)))

# How long to wait for anybody at all. An upgrade may well be the repair of a cluster that does not run.
DEADLINE_SECONDS=60

someone_runs() {
  for i in $(ordinals "$REPLICAS"); do
    running "$i" >/dev/null && return 0
  done
  echo "any pod to answer"
  return 1
}

# Nothing to do, told from whichever pod answers, so that a broken pod does not stand in the way of its repair.
nothing_departs() {
  for i in $(ordinals "$REPLICAS"); do
    answer=$(on "$i" CLUSTER INFO) || case $answer in
      *"cluster support disabled"*) log "not a cluster yet, nothing departs"; return 0 ;;
      *) continue ;;
    esac
    known=$(printf '%s\n' "$answer" | field cluster_known_nodes)
    [ "$known" -gt 1 ] || continue
    [ "$known" -le "$REPLICAS" ] && log "the cluster has $known nodes, none departs" && return 0
    return 1
  done
  if (CALL_SECONDS=3 && running "$REPLICAS" >/dev/null); then
    for i in $(ordinals "$REPLICAS"); do
      refused "$i" && die "pods depart, but their password is not the Secret's: restart the pods first, then upgrade"
    done
    return 1
  fi
  log "no pod beyond $REPLICAS runs, none departs"
}

serving_pods() { survey "$1" "$seed" | awk '$1 != "-" && $3 == "primary" && $5 > 0' | grep -c .; }

# took_over ORDINAL: the pod is a primary; asks for a failover, which waits for the replica to have everything.
took_over() {
  [ "$(on "$1" ROLE | head -n 1)" = master ] && return 0
  answer=$(on "$1" CLUSTER FAILOVER)
  echo "pod $(pod "$1") to take over from its primary, last answer: $answer"
  return 1
}

# With too few primaries among the pods that stay, replicas that stay take over from primaries that leave.
promote_survivors() {
  while [ "$(serving_pods "$REPLICAS")" -lt "$primaries_wanted" ]; do
    table=$(survey "$REPLICAS" "$seed") || exit 1
    heir=$(printf '%s\n' "$table" | awk '
      $1 == "-" && $3 == "primary" && $5 > 0 { leaving[$2] = 1 } { line[NR] = $0 }
      END { for (k = 1; k <= NR; k++) { split(line[k], f, " "); if (f[1] != "-" && f[3] == "replica" && (f[4] in leaving)) { print f[1]; exit } } }')
    [ -n "$heir" ] || die "only $(serving_pods "$REPLICAS") of the pods that stay can be primaries, $primaries_wanted are wanted: scale in smaller steps"
    log "pod $(pod "$heir") takes over from its departing primary"
    wait_for "$TIMEOUT_SECONDS" took_over "$heir"
    wait_for "$TIMEOUT_SECONDS" settled "$REPLICAS"
  done
}

# emptied IP: condition; the departing node knows nobody any more, so that it cannot come back. Its slots are gone;
# the keys that were in them may take a moment longer.
emptied() {
  case $(at "$1" PING) in PONG) ;; *) return 0 ;; esac
  answer=$(at "$1" CLUSTER RESET HARD) && return 0
  echo "the departing node at $1 to reset, last answer: $answer"
  return 1
}

take_out() {
  leaving=$(strangers "$REPLICAS") || exit 1
  while read -r id ip slots; do
    [ "$slots" = 0 ] || die "the departing node $id at $ip still serves $slots slots"
    [ "$ip" = - ] || wait_for "$TIMEOUT_SECONDS" emptied "$ip"
    wait_for "$TIMEOUT_SECONDS" forget "$REPLICAS" "$id"
    log "the departing node $id at $ip is out of the cluster"
  done <<EOF
$leaving
EOF
}

# A departing node that was being introduced to a peer at the moment of its reset is known again, under another ID.
complete() {
  back=$(strangers "$REPLICAS") || { echo "every pod to tell which nodes it knows"; return 1; }
  [ -z "$back" ] || take_out >&2
  whole "$REPLICAS"
}

(wait_for "$DEADLINE_SECONDS" someone_runs) ||
  die "nobody can tell whether slots must be moved; to upgrade all the same, set cluster.drainBeforeScaleDown=false"
if nothing_departs; then exit 0; fi
wait_for "$TIMEOUT_SECONDS" answer_all "$REPLICAS"
seed=$(seed "$REPLICAS")
wait_for "$TIMEOUT_SECONDS" at_rest "$REPLICAS"
promote_survivors
table=$(survey "$REPLICAS" "$seed") || exit 1
targets=$(printf '%s\n' "$table" | choose_targets "$primaries_wanted")
rebalance "$REPLICAS" "$seed" "$targets"
place_replicas "$REPLICAS" "$seed" "$targets"
take_out
wait_for "$TIMEOUT_SECONDS" complete
log "the pods that stay serve every slot; the others may go"
