#!/bin/sh
# The entrypoint contract of the Percona Valkey images (chart README, "Entrypoint Integration").
set -e

# `args: ["/etc/valkey/valkey.conf"]` and `--flag` mean the server.
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
    set -- valkey-server "$@"
fi

# As root, what the server writes to becomes its own, and the server runs as user valkey.
if [ "$1" = 'valkey-server' ] && [ "$(id -u)" = '0' ]; then
    find . \! -user valkey -exec chown valkey '{}' +
    exec setpriv --reuid=valkey --regid=valkey --clear-groups -- "$0" "$@"
fi

# A data folder that others can read is nobody's wish.
if [ "$(umask)" = '0022' ]; then
    umask 0077
fi

if [ "$1" = 'valkey-server' ]; then
    if [ -n "$VALKEY_PASSWORD" ]; then
        VALKEY_EXTRA_FLAGS="$VALKEY_EXTRA_FLAGS --requirepass $VALKEY_PASSWORD"
    fi
    if [ -n "$VALKEY_MAXMEMORY" ]; then
        VALKEY_EXTRA_FLAGS="$VALKEY_EXTRA_FLAGS --maxmemory $VALKEY_MAXMEMORY"
    fi
    if [ -n "$VALKEY_BIND" ]; then
        VALKEY_EXTRA_FLAGS="$VALKEY_EXTRA_FLAGS --bind $VALKEY_BIND"
    fi
    # Unquoted on purpose: every word is an argument.
    # shellcheck disable=SC2086
    exec "$@" $VALKEY_EXTRA_FLAGS
fi

exec "$@"
