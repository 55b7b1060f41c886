# helm test: the client Service leads to a server that answers PING with PONG. The password is in REDISCLI_AUTH.
answer=$(valkey-cli -e -h "$HOST" -p "$PORT" PING 2>&1)
if [ "$answer" = PONG ]; then
  echo "PONG from $HOST:$PORT"
  exit 0
fi
echo "FAILED: $HOST:$PORT answered: $answer" >&2
exit 1
