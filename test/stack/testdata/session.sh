# What every command of the guide finds: its containers and its volume have the names that compose makes for this stack.
docker() {
  case $1 in
  exec) set -- exec "${COMPOSE_PROJECT_NAME}_$2_1" "${@:3}" ;;
  volume) set -- volume rm "${3/#orchestrator_/${COMPOSE_PROJECT_NAME}_}" ;;
  esac
  command docker "$@"
}

# codes AGENT N: the statuses of N calls to an agent.
codes() {
  for _ in $(seq "$2"); do
    curl -o /dev/null -w '%{http_code} ' "http://localhost:8000/agents/$1/"
  done
}

# execute: one execution of the guide's workflow, its status and how long it took.
execute() {
  curl -o /dev/null -w '%{http_code} %{time_total}\n' -X POST http://localhost:8000/api/v1/workflows/circuit-breaker-test/execute
}

# agents FILTER: edits the agent registry by jq.
agents() {
  jq "$1" deploy/compose/agents.json >deploy/compose/agents.json.new && mv deploy/compose/agents.json.new deploy/compose/agents.json
}
