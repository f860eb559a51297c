#!/bin/bash
# The entrypoint of the stand-ins of stand_in_images.py: what the official images promise of theirs, in the same order.
set -euo pipefail

run_as() { exec setpriv --reuid="$1" --regid="$1" --init-groups "${@:2}"; }

if [ "$1" = redis-server ]; then
  [ "$(id -u)" != 0 ] || { chown redis: . && run_as redis "$0" "$@"; }
  exec "$@" --protected-mode no  # the official image is built with this default
fi

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chown postgres: "$PGDATA" /var/run/postgresql
  chmod 700 "$PGDATA"
  run_as postgres "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  initdb --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD") --encoding=UTF8 --locale=C.UTF-8
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  cat >>"$PGDATA/postgresql.conf" <<CONF
listen_addresses = '*'
shared_preload_libraries = 'timescaledb'
timescaledb.telemetry_level = ${TIMESCALEDB_TELEMETRY:-basic}
jit = off
CONF
  # On the socket only, so that clients do not take the server for ready before its first start has finished.
  pg_ctl -w start -o "-c listen_addresses=''"
  psql=(psql -v ON_ERROR_STOP=1 --no-password --no-psqlrc --username "$POSTGRES_USER")
  [ "$POSTGRES_DB" = postgres ] || "${psql[@]}" --dbname postgres -c "CREATE DATABASE \"$POSTGRES_DB\""
  "${psql[@]}" --dbname "$POSTGRES_DB" -c "CREATE EXTENSION timescaledb"
  shopt -s nullglob  # there may be none
  for file in /docker-entrypoint-initdb.d/*.sql; do
    echo "$0: running $file"
    "${psql[@]}" --dbname "$POSTGRES_DB" -f "$file"
  done
  pg_ctl -m fast -w stop
fi
exec "$@"
