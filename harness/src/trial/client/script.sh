# What a client does: it comes through a Service, and follows where it is sent.
# Arguments: host, port, seconds to wait, and commands that make a server redirect. The first line of standard input is
# the AUTH command, or empty.
host=$1 port=$2 seconds=$3
shift 3
IFS= read -r auth
limit=
if command -v timeout >/dev/null 2>&1; then limit="timeout $seconds"; fi

# ask HOST PORT COMMAND…: what valkey-cli prints.
ask() {
  at=$1 on=$2
  shift 2
  { [ -z "$auth" ] || printf '%s\n' "$auth"; printf '%s\n' "$@"; } | $limit valkey-cli -h "$at" -p "$on" 2>&1
}

say() {
  printf '== %s\n%s\n' "$1" "$2"
}

# visit HOST PORT NODE
visit() {
  case $1 in
    '' | '?') say "endpoint $3 $2 $1" '' ;;
    *) say "endpoint $3 $2 $1" "$(ask "$1" "$2" 'CLUSTER MYID')" ;;
  esac
}

# follow: visits every endpoint among the lines of CLUSTER SLOTS (host, port, ID of 40 digits) and of MOVED, once each.
follow() {
  seen=' ' before= last=
  while IFS= read -r line; do
    node=
    case $line in
      MOVED\ *) to=${line##* } node=- from=${to%:*} on=${to##*:} ;;
      *[!0-9a-f]*) ;;
      ????????????????????????????????????????) node=$line from=$before on=$last ;;
    esac
    before=$last last=$line
    [ -n "$node" ] || continue
    # A redirection leads to where a node of the map has been visited, or is followed for itself.
    key=$node
    if [ "$node" = - ]; then key="$from:$on"; fi
    case $seen in *" $key "*) continue ;; esac
    seen="$seen$key $from:$on "
    visit "$from" "$on" "$node" &
  done
  wait
}

# A missing key has an answer here: of a GET, nothing would be printed.
{ say anonymous "$(auth=; ask "$host" "$port" 'EXISTS client')"; } &
admitted=$(ask "$host" "$port" PING "$@")
wait
say admitted "$admitted"
printf '%s\n' "$admitted" | follow
