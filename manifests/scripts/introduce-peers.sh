# Introduces this pod's server to its peers again, by their stable names, after addresses have changed; and lets it
# accept a new password as soon as a peer has been restarted with it.
#
# Runs beside each server for the pod's whole life. It acts only while the server misses a peer, and asks only
# peers that already know this node's ID and hold a wrong address for it: a node that was forgotten is not
# brought back. Environment beyond lib.sh: POD_IP, the address that this pod's server announces; neither REPLICAS
# nor TIMEOUT_SECONDS, as this is part of the servers' pods and scaling must restart none of them. The number of
# peers is the server's own knowledge.

# A stopped peer must not keep the others waiting.
CALL_SECONDS=2
# Often enough that a node timeout does not pass unused, seldom enough to cost nothing.
interval=$((NODE_TIMEOUT_MS / 5000))
[ "$interval" -ge 1 ] || interval=1
[ "$interval" -le 3 ] || interval=3

# The container is the first process of its PID namespace: without a handler it would ignore SIGTERM.
trap 'exit 0' TERM INT

# A pause that a signal ends at once.
pause() {
  sleep "$interval" &
  wait "$!"
}

# introduce ID ORDINAL: makes the peer meet this pod, if it knows the node but not its present address.
introduce() {
  view=$(on "$2" CLUSTER NODES) || return 0
  held=$(printf '%s\n' "$view" | awk -v id="$1" '$1 == id { print $2, $8 }')
  case $held in
    '') return 0 ;;
    "$POD_IP:$PORT@"*' connected') return 0 ;;
  esac
  # A server that has been reset since, because its pod leaves, must not be brought back under its new ID.
  [ "$(at "$POD_IP" CLUSTER MYID)" = "$1" ] || return 0
  if answer=$(on "$2" CLUSTER MEET "$POD_IP" "$PORT" "$BUS_PORT"); then
    log "asked pod $(pod "$2"), which had this node at ${held%%@*}, to meet it at $POD_IP"
  else
    log "pod $(pod "$2") refused to meet $POD_IP: $answer"
  fi
}

# Introduces this pod to every peer that its server knows of.
introduce_everywhere() {
  view=$(at "$POD_IP" CLUSTER NODES) || return 0
  id=$(printf '%s\n' "$view" | awk '/myself/ { print $1; exit }')
  known=$(printf '%s\n' "$view" | grep -c ' ')
  [ -n "$id" ] || return 0
  for i in $(ordinals "$known"); do introduce "$id" "$i"; done
}

# What the Secret says now; the servers read it when they start. A line that ends without a line feed is one too.
PASSWORD_FILE=/etc/valkey-auth/valkey-password
current_password() { current=; [ ! -r "$PASSWORD_FILE" ] || read -r current <"$PASSWORD_FILE" || :; }

# taken_up ORDINALS: one of the pods has been restarted with the current password.
taken_up() {
  for i in $(ordinals "$1"); do
    case $(REDISCLI_AUTH=$current on "$i" PING) in PONG) return 0 ;; esac
  done
  return 1
}

# The commands of accept_current, which go through a pipe: a password is never an argument.
commands_to_accept() {
  quoted=$(printf '%s' "$current" | sed 's/["\\]/\\&/g')
  printf 'ACL SETUSER default ">%s"\nCONFIG SET masterauth "%s"\n' "$quoted" "$quoted"
}

# While a rolling restart carries a new password through the pods, this server takes it beside its own, so that
# replicas that have been restarted can follow it, and it can follow primaries that have.
accepted=${REDISCLI_AUTH:-}
accept_current() {
  current_password
  [ -n "$current" ] && [ "$current" != "$accepted" ] && [ -n "${REDISCLI_AUTH:-}" ] || return 0
  view=$(at "$POD_IP" CLUSTER NODES) || return 0
  taken_up "$(printf '%s\n' "$view" | grep -c ' ')" || return 0
  if answer=$(commands_to_accept | bounded valkey-cli -e -h "$POD_IP" -p "$PORT" 2>&1); then
    accepted=$current
    log "the server accepts the new password too, until it is restarted"
  else
    log "the server refused to accept the new password too: $answer"
  fi
}

# Reads the server's table of nodes again and again through one connection of one process: beside a healthy
# server nothing is ever started. Ends when the server does.
watch() {
  next=0
  valkey-cli -h "$POD_IP" -p "$PORT" -r -1 -i "$interval" CLUSTER NODES 2>/dev/null |
    while read -r _ _ flags _ _ _ _ link _; do
      case $flags in *myself*) accept_current; continue ;; esac
      [ "$link" = disconnected ] || continue
      case $flags in *handshake*) continue ;; esac
      now=$(date +%s)
      # Several lines of one table may say it; one round of introductions is for all of them.
      [ "$now" -ge "$next" ] || continue
      introduce_everywhere
      next=$(($(date +%s) + interval))
    done
}

while :; do
  # In the background, since a shell attends to a signal only while it waits.
  watch &
  wait "$!"
  pause
done
