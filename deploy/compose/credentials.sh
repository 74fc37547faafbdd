#!/bin/sh
# Makes the passwords of the Compose deployment, anew and at random, and writes them to .env beside docker-compose.yml.
#
#   deploy/compose/credentials.sh [FILE]
#
# Writes nothing where the file exists already: those passwords are in use. The second half of the file is for `forge` on
# this machine: `set -a; . ./.env; set +a`.
set -eu
umask 077
file=${1:-$(dirname "$0")/../../.env}

# A letter first: nats-server takes a value of digits alone for a number. Alphanumeric: nothing has to be quoted anywhere.
# 31 characters after it are 184 bits.
password() {
  rest=$(head -c 2048 /dev/urandom | LC_ALL=C tr -dc 'A-Za-z0-9' | cut -c 1-31)
  first=$(head -c 1024 /dev/urandom | LC_ALL=C tr -dc 'A-Za-z' | cut -c 1)
  [ "${#rest}" -eq 31 ] && [ -n "$first" ] || { echo "credentials.sh: /dev/urandom gave too little" >&2; exit 1; }
  printf '%s%s' "$first" "$rest"
}

client=$(password)
planner=$(password)
worker=$(password)
worker_gpu=$(password)
verifier=$(password)
aggregator=$(password)
access=$(password)
secret=$(password)
# noclobber: to create the file and to find that it is there already are one step.
if ! (set -C && : >"$file") 2>/dev/null; then
  if [ -e "$file" ]; then
    echo "credentials.sh: $file is there already and stays as it is" >&2
  else
    echo "credentials.sh: $file cannot be written" >&2
  fi
  exit 1
fi
cat >"$file" <<END
# Passwords of the Compose deployment, made by deploy/compose/credentials.sh. Not to be committed.
FORGE_CLIENT_PASSWORD=$client
FORGE_PLANNER_PASSWORD=$planner
FORGE_WORKER_PASSWORD=$worker
FORGE_WORKER_GPU_PASSWORD=$worker_gpu
FORGE_VERIFIER_PASSWORD=$verifier
FORGE_AGGREGATOR_PASSWORD=$aggregator
FORGE_S3_ACCESS_KEY=$access
FORGE_S3_SECRET_KEY=$secret

# For the forge command on this machine: docker-compose.yml does not read what follows.
FORGE_NATS_URL=nats://127.0.0.1:4222
FORGE_NATS_USER=client
FORGE_NATS_PASSWORD=$client
FORGE_NATS_INBOX_PREFIX=_INBOX_client
FORGE_STORE=s3://forge
AWS_ENDPOINT_URL=http://127.0.0.1:8333
AWS_REGION=us-east-1
AWS_ACCESS_KEY_ID=$access
AWS_SECRET_ACCESS_KEY=$secret
END
echo "credentials.sh: wrote $file"
