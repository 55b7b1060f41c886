# Brings a running cluster to REPLICAS nodes after an upgrade: takes in new pods, drops departed ones, and gives
# every primary its share of the slots and its replicas. Does nothing when all that is so.

primaries_wanted=$((REPLICAS / (1 + REPLICAS_PER_PRIMARY)))
[ $((REPLICAS % (1 + REPLICAS_PER_PRIMARY))) = 0 ] ||
  log "note: $REPLICAS is not a multiple of $((1 + REPLICAS_PER_PRIMARY)), some primaries get more replicas than others"

# A password that this upgrade changed is not the running servers' until they restart (chart README, known
# limitation 3). That is no failure of the upgrade; there is nothing that this Job could do for such pods.
await_pods() {
  wait_for "$TIMEOUT_SECONDS" run_all "$REPLICAS"
  if [ "$(ask_all "$REPLICAS" | grep -c '^PONG')" = 0 ]; then
    log "every pod still has the previous password: restart them to take up the new one; nothing is scaled now"
    exit 0
  fi
  # Some have it: a restart is under way, or pods were added and the others have the old password.
  wait_for "$TIMEOUT_SECONDS" answer_all "$REPLICAS"
}

# A pod that the cluster does not know, but that knows or serves something itself, comes with the volume of an
# earlier life. The cluster has all slots without it, so what it holds is out of date.
wash() {
  known=$(on "$1" CLUSTER NODES | grep -c ' ')
  keys=$(on "$1" DBSIZE)
  served=$(on "$1" CLUSTER NODES | awk '/myself/ && NF > 8')
  [ "$known" != 1 ] || [ "$keys" != 0 ] || [ -n "$served" ] || return 0
  if state=$(all_ok_at "$seed"); then :; else die "pod $(pod "$1") holds old data, and the cluster is not ok without it: $state"; fi
  log "pod $(pod "$1") comes with an earlier cluster's state ($keys keys), emptying it"
  if [ "$(on "$1" ROLE | head -n 1)" = master ] && [ "$keys" != 0 ]; then
    answer=$(on "$1" FLUSHALL) || die "pod $(pod "$1") holds $keys old keys and refuses FLUSHALL: $answer"
  fi
  answer=$(on "$1" CLUSTER RESET HARD) || die "pod $(pod "$1") refuses CLUSTER RESET: $answer"
}

all_ok_at() {
  info=$(on "$1" CLUSTER INFO)
  [ "$(printf '%s\n' "$info" | field cluster_state)" = ok ] && return 0
  echo "pod $(pod "$1") says cluster_state:$(printf '%s\n' "$info" | field cluster_state)"
  return 1
}

join_newcomers() {
  table=$(survey "$REPLICAS" "$seed") || exit 1
  for i in $(ordinals "$REPLICAS"); do
    known=$(printf '%s\n' "$table" | awk -v i="$i" '$1 == i')
    # One that was reset, by a Job that was killed then, is known and knows nobody.
    [ -z "$known" ] || [ "$(on "$i" CLUSTER NODES | grep -c ' ')" = 1 ] || continue
    wash "$i"
    log "pod $(pod "$i") joins the cluster"
    meet "$i" "$seed" || die "pod $(pod "$i") cannot meet pod $(pod "$seed")"
  done
}

# gone IP: nobody answers there. A node that is forgotten while it lives comes back.
gone() {
  answer=$(CALL_SECONDS=2 && at "$1" PING)
  case $answer in PONG* | *NOAUTH* | *WRONGPASS*) echo "the departed node at $1 to stop"; return 1 ;; esac
}

# failed_over: no departed node serves slots any more.
failed_over() {
  nodes=$(strangers "$REPLICAS") || { echo "every pod to tell which nodes it knows"; return 1; }
  serving=$(printf '%s\n' "$nodes" | awk '$3 > 0 { print $1 "@" $2 " (" $3 " slots)" }')
  [ -n "$serving" ] || return 0
  echo "the replicas of departed primaries to take over from $serving"
  # Nobody takes over from a primary that none of the pods follows: waiting for it would only prolong the outage.
  table=$(survey "$REPLICAS" "$seed") || return 1
  followed=$(printf '%s\n' "$table" | awk '
    $1 == "-" && $5 > 0 { serving[$2] = 1 } $1 != "-" && $3 == "replica" { follows[$4] = 1 }
    END { for (id in serving) if (id in follows) { print id; exit } }')
  if [ -n "$followed" ]; then return 1; fi
  return 2
}

# follow_others ID: nobody forgets its own primary, so pods that still follow the departed node, which serves nothing any
# more, follow another one until they get their place.
follow_others() {
  table=$(survey "$REPLICAS" "$seed") || exit 1
  other=$(printf '%s\n' "$table" | awk '$1 != "-" && $3 == "primary" && $5 > 0 { print $2; exit }')
  for i in $(printf '%s\n' "$table" | awk -v id="$1" '$1 != "-" && $3 == "replica" && $4 == id { print $1 }'); do
    log "pod $(pod "$i") stops following the departed node $1"
    wait_for "$TIMEOUT_SECONDS" replicates "$i" "$other"
  done
}

drop_departed() {
  gone_nodes=$(strangers "$REPLICAS") || exit 1
  [ -n "$gone_nodes" ] || return 0
  while read -r id ip slots; do
    [ "$ip" = - ] || wait_for "$TIMEOUT_SECONDS" gone "$ip"
  done <<EOF
$gone_nodes
EOF
  # Detection and election take node timeouts; only then is it certain that nobody will take over.
  deadline=$((NODE_TIMEOUT_MS * 4 / 1000 + 30))
  (wait_for "$deadline" failed_over) || log "WARNING: no replica took over; the data of these slots is lost"
  gone_nodes=$(strangers "$REPLICAS") || exit 1
  while read -r id ip slots; do
    [ -n "$id" ] || continue
    [ "$slots" != 0 ] || follow_others "$id"
    log "forgetting the departed node $id at $ip"
    wait_for "$TIMEOUT_SECONDS" forget "$REPLICAS" "$id"
  done <<EOF
$gone_nodes
EOF
  wait_for "$TIMEOUT_SECONDS" knows_all "$REPLICAS"
  cover_lost_slots
}

# After their owner was forgotten without a successor, slots have no owner at all: a cluster without them serves
# nothing, so the first primary takes them, empty.
cover_lost_slots() {
  table=$(survey "$REPLICAS" "$seed") || exit 1
  lost=$(printf '%s\n' "$table" | awk '
    { n = split($6, r, ","); for (k = 1; k <= n; k++) if (r[k] != "-") { m = split(r[k], e, "-")
        for (s = e[1] + 0; s <= (m > 1 ? e[2] : e[1]) + 0; s++) taken[s] = 1 } }
    END { start = -1; for (s = 0; s <= 16384; s++) { free = s < 16384 && !(s in taken)
        if (free && start < 0) start = s
        if (!free && start >= 0) { printf "%d %d ", start, s - 1; start = -1 } } }')
  [ -n "$lost" ] || return 0
  owner=$(printf '%s\n' "$table" | awk '$1 != "-" && $3 == "primary" && $5 > 0 { print $1; exit }')
  [ -n "$owner" ] || die "no primary is left to take over the slots $lost"
  # shellcheck disable=SC2086 # a list of bounds
  answer=$(on "$owner" CLUSTER ADDSLOTSRANGE $lost) || die "pod $(pod "$owner") cannot take over lost slots: $answer"
  log "WARNING: slots lost with all their nodes are served empty by pod $(pod "$owner"): $lost"
}

# free_replicas N: makes up to N replicas that are more than their primaries need into empty primaries. A pod that comes
# back with an old volume may have found its cluster by itself, which made it a replica of those that have its slots now.
free_replicas() {
  anchor=$(printf '%s\n' "$table" | awk '$1 != "-" && $3 == "primary" && $5 > 0 { print $1; exit }')
  for i in $(printf '%s\n' "$table" | spare_replicas "$REPLICAS_PER_PRIMARY" "$1"); do
    log "pod $(pod "$i") is one replica more than its primary needs, it becomes an empty primary"
    answer=$(on "$i" CLUSTER RESET SOFT) || die "pod $(pod "$i") refuses CLUSTER RESET: $answer"
    meet "$i" "$anchor" || die "pod $(pod "$i") cannot meet pod $(pod "$anchor")"
  done
  wait_for "$TIMEOUT_SECONDS" knows_all "$REPLICAS"
  wait_for "$TIMEOUT_SECONDS" at_rest "$REPLICAS"
}

reshape() {
  table=$(survey "$REPLICAS" "$seed") || exit 1
  targets=$(printf '%s\n' "$table" | choose_targets "$primaries_wanted")
  missing=$((primaries_wanted - $(echo "$targets" | awk '{ print NF }')))
  if [ "$missing" -gt 0 ]; then
    free_replicas "$missing"
    table=$(survey "$REPLICAS" "$seed") || exit 1
    targets=$(printf '%s\n' "$table" | choose_targets "$primaries_wanted")
  fi
  [ "$(echo "$targets" | awk '{ print NF }')" = "$primaries_wanted" ] ||
    die "$primaries_wanted primaries are wanted, but no free pod can become one"
  place_replicas "$REPLICAS" "$seed" "$targets"
  rebalance "$REPLICAS" "$seed" "$targets"
  place_replicas "$REPLICAS" "$seed" "$targets"
}

complete() { ask_all "$REPLICAS" | judge "$REPLICAS" 'still agree knows ok links'; }

if as_wanted "$REPLICAS" "$primaries_wanted"; then
  log "the cluster has $REPLICAS nodes, $primaries_wanted primaries, every node agrees: nothing to do"
  exit 0
fi
await_pods
seed=$(seed "$REPLICAS")
if [ -z "$seed" ]; then
  log "these pods are not a cluster yet"
  form
  seed=0
fi
join_newcomers
wait_for "$TIMEOUT_SECONDS" at_rest "$REPLICAS"
drop_departed
reshape
wait_for "$TIMEOUT_SECONDS" complete
log "the cluster has $REPLICAS nodes, $primaries_wanted primaries; every node agrees"
