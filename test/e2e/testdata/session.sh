# What every command of a document finds: stand-ins for the machinery around the service, and short words for what the agents do.
set -o pipefail
api=http://localhost:18180

watch() { shift 2; bash -c "$1"; }    # watch -n 2 CMD: once
docker() { shift 2; "$@"; }           # docker exec redis CMD: where no container is meant
docker-compose() { cat "$LOG"; }      # docker-compose logs -f bridge
journalctl() { cat "$LOG"; }          # journalctl -u stemedb-api

# post PATH BODY: one POST of JSON.
post() { curl -sS --fail-with-body -X POST "$api$1" -H 'Content-Type: application/json' -d "$2"; }

# calls AGENT OUTCOME N: N calls to the agent that end so; each must be admitted and counted.
calls() {
  for _ in $(seq "$3"); do
    permit=$(post "/v1/circuit_breakers/$1/acquire" '{}' | jq -er .permit) || return 1
    post "/v1/circuit_breakers/$1/report" "{\"permit\":\"$permit\",\"outcome\":\"$2\",\"error\":\"duplicate assertion\"}" |
      jq -e .counted >/dev/null || return 1
  done
}

# refused AGENT: the head of the answer to a call.
refused() { curl -sS -o /dev/null -D - -X POST "$api/v1/circuit_breakers/$1/acquire" | tr -d '\r'; }
