#!/bin/sh
# The entrypoint of the image. The arguments are a command of spillway (`drain --stream 'events*'`), or begin with
# `prefect` (`prefect worker start --pool spillway`), or with `uvicorn`, which serves Prefect with TLS. That program
# replaces this shell, so signals reach it.
set -eu

# Spillway reads secrets from files by itself (SPILLWAY_..._FILE). Prefect does not: this does it, for Prefect's secrets.
for name in PREFECT_API_AUTH_STRING PREFECT_API_KEY PREFECT_SERVER_API_AUTH_STRING PREFECT_SERVER_DATABASE_PASSWORD; do
  file=$(printenv "${name}_FILE") || continue
  value=$(cat -- "$file") || { echo "error: ${name}_FILE: cannot read $file; nothing was started" >&2; exit 2; }
  [ -n "$value" ] || { echo "error: ${name}_FILE: $file is empty; nothing was started; fill it" >&2; exit 2; }
  export "$name=$value"
done

case "${1:-}" in
  prefect | spillway | uvicorn) exec "$@" ;;
  *) exec spillway "$@" ;;
esac
