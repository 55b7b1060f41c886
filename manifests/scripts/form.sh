# Functions that form a cluster from pods that are not one yet; used by the init Job, and by the scale Job when
# an upgrade meets pods that the init Job never brought together.
#
# Every step asks first whether it is still needed, so a run that was interrupted anywhere is completed by the
# next one, and a run on a formed cluster changes nothing. (`valkey-cli --cluster create` does the same work but
# refuses nodes that are "not empty", and thus cannot finish what it has begun.)

primaries=$((REPLICAS / (1 + REPLICAS_PER_PRIMARY)))

# slot_range I: the first and last slot of primary I; the shares differ by one slot at most.
slot_range() {
  awk -v i="$1" -v p="$primaries" 'BEGIN {
    per = 16384 / p; first = int(i * per + 0.5); last = int((i + 1) * per + 0.5) - 1
    print first, last }' </dev/null
}

# A pod that belongs to a larger or other cluster must not be built into this one.
refuse_strangers() {
  stranger=$(ask_all "$REPLICAS" | awk '
    $1 == "pod" && NF == 3 { pod = $2 }
    NF >= 8 && length($1) == 40 && $3 !~ /handshake/ {
      if ($3 ~ /myself/) own[$1] = 1
      else { other[++n] = $1; address[n] = $2; by[n] = pod } }
    END { for (k = 1; k <= n; k++) if (!(other[k] in own)) {
      print "pod " by[k] " already belongs to a cluster with other nodes: " other[k] "@" address[k]; exit } }')
  [ -z "$stranger" ] || die "$stranger"
}

# assign_slots I: gives primary I those of its slots that nobody has.
assign_slots() {
  range=$(slot_range "$1")
  view=$(on "$1" CLUSTER NODES) || die "pod $(pod "$1") does not answer CLUSTER NODES: $view"
  missing=$(printf '%s\n' "$view" | awk -v range="$range" '
    { for (f = 9; f <= NF; f++) if ($f !~ /^\[/) { n = split($f, r, "-"); last = n > 1 ? r[2] : r[1]
        for (s = r[1] + 0; s <= last + 0; s++) taken[s] = 1 } }
    END { split(range, r, " "); start = -1
      for (s = r[1] + 0; s <= r[2] + 1; s++) {
        free = (s <= r[2] + 0) && !(s in taken)
        if (free && start < 0) start = s
        if (!free && start >= 0) { printf "%d %d ", start, s - 1; start = -1 } } }')
  [ -n "$missing" ] || return 0
  # shellcheck disable=SC2086 # a list of bounds
  answer=$(on "$1" CLUSTER ADDSLOTSRANGE $missing) || die "pod $(pod "$1") refused its slots: $answer"
  log "pod $(pod "$1") has the slots $range"
}

# Distinct configuration epochs spare the nodes a round of resolving collisions. Refused by a node that already
# has one or knows others, which is then just as good.
set_epoch() { on "$1" CLUSTER SET-CONFIG-EPOCH "$(($1 + 1))" >/dev/null || true; }

# Each pod meets each before it: gossip would spread the acquaintance too, but takes seconds for it.
meet_all() {
  told=$(ask_all "$REPLICAS")
  addresses=
  for i in $(ordinals "$REPLICAS"); do
    at_i=$(printf '%s\n' "$told" | own_address "$i")
    [ -n "$at_i" ] || die "pod $(pod "$i") does not say its own address"
    printf '%s' "$addresses" | piped "$i" >/dev/null || die "pod $(pod "$i") cannot meet the others"
    addresses="${addresses}CLUSTER MEET $at_i
"
  done
}

# introduced: knows_all, asking again for whoever is missing: an address may have been stale, a handshake lost.
introduced() {
  told=$(ask_all "$REPLICAS")
  if reason=$(printf '%s\n' "$told" | judge "$REPLICAS" knows); then return 0; fi
  lonely=$(printf '%s\n' "$told" | awk -v n="$REPLICAS" '
    function verdict() { if (pod != "" && pod != 0 && known < n) print pod }
    $1 == "pod" && NF == 3 { verdict(); pod = $3; known = 0 }
    NF >= 8 && length($1) == 40 && $3 !~ /handshake/ { known++ }
    END { verdict() }')
  for i in $lonely; do meet "$i" 0; done
  echo "$reason"
  return 1
}

# attach I: pod I, if it is neither a replica yet nor serves slots, replicates the primary of its shard.
attach() {
  shard=$((($1 - primaries) % primaries))
  primary=$(node_id "$shard")
  placed=$(on "$1" CLUSTER NODES | awk '/myself/ && ($4 != "-" || NF > 8)')
  [ -z "$placed" ] || return 0
  answer=$(on "$1" CLUSTER REPLICATE "$primary") || {
    echo "pod $(pod "$1") to become a replica of pod $(pod "$shard"), last answer: $answer"
    return 1
  }
  log "pod $(pod "$1") replicates pod $(pod "$shard")" >&2
}

form() {
  refuse_strangers
  for i in $(ordinals "$primaries"); do
    set_epoch "$i"
    assign_slots "$i"
  done
  meet_all
  wait_for "$TIMEOUT_SECONDS" introduced
  log "every pod knows every other"
  i=$primaries
  while [ "$i" -lt "$REPLICAS" ]; do
    wait_for "$TIMEOUT_SECONDS" attach "$i"
    i=$((i + 1))
  done
}
