# Forms the cluster: pods 0..P-1 become primaries with equal shares of the slots, the others their replicas. Does
# nothing when it is formed.

wait_for "$TIMEOUT_SECONDS" answer_all "$REPLICAS"
log "all $REPLICAS pods answer"

# A cluster that has all its slots and nodes is formed, whatever its roles are by now: after a failover pod 0 is
# a replica, and that is as it should be.
if ask_all "$REPLICAS" | judge "$REPLICAS" 'knows ok' >/dev/null; then
  wait_for "$TIMEOUT_SECONDS" links_up "$REPLICAS"
  log "the cluster is formed, nothing to do"
  exit 0
fi

form
wait_for "$TIMEOUT_SECONDS" whole "$REPLICAS"
log "the cluster is formed: $primaries primaries, $((REPLICAS - primaries)) replicas, every node agrees"
