// Made from breakerd's OpenAPI document by go test ./internal/clientgen -update. DO NOT EDIT.
export interface AcquireBody {
  parent?: string;
  parent_agent?: string;
}
export interface AcquireReply {
  allowed: boolean;
  degraded: boolean;
  lease_seconds: number;
  permit: string;
  state: "CLOSED" | "HALF_OPEN";
  would?: string;
}
export interface ActionBody {
  action: "open" | "close" | "half_open" | "reset" | "release";
  agents?: string[] | null;
  dry_run?: boolean;
  expect?: number;
  force?: boolean;
  gradual_seconds?: number;
  protected?: boolean;
  reason: string;
  selector?: Selector;
  timeout_seconds?: number;
}
export interface ActionReply {
  action: "open" | "close" | "half_open" | "reset" | "release";
  actor: string;
  created_at: string | null;
  dry_run: boolean;
  finished: boolean;
  finished_at: string | null;
  id?: string;
  matched: number;
  reason: string;
  results: ActionResult[];
  todo: number;
}
export interface ActionResult {
  agent_id: string;
  result: "todo" | "done" | "hold_protected" | "hold_exists" | "not_held" | "agent_unknown" | "refused";
}
export interface AgentLatency {
  agent_id: string;
  average_ms: number;
  calls: number;
  first_byte?: FirstByte;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  replicas: number;
  since: string;
}
export interface AgentReply {
  agent_id: string;
  classify: string | null;
  classify_observe?: "status" | "jsonrpc" | "mcp" | "mcp_strict" | "llm" | "grpc" | "auto";
  contact: string | null;
  count?: Count;
  degraded: boolean;
  failure_statuses?: any[];
  first_token_timeout_seconds?: number;
  hold_protected: boolean;
  idle_timeout_seconds?: number;
  ignored_statuses?: any[];
  in_file: boolean;
  labels: {[name: string]: string};
  last_seen: string | null;
  opened_at: string | null;
  reason: string | null;
  state: "CLOSED" | "OPEN" | "HALF_OPEN";
  timeout_seconds: number | null;
  timeout_until: string | null;
  url: string | null;
}
export interface AuditReply {
  entries: StreamEntry[];
  next_cursor: string | null;
}
export interface BatchBody {
  operations: BatchOp[];
}
export interface BatchOp {
  agent: string;
  duration_ms?: number;
  error?: string;
  idempotency_key?: string;
  op: "acquire" | "report" | "renew";
  outcome?: "success" | "failure" | "ignored";
  parent?: string;
  parent_agent?: string;
  permit?: string;
  reporter?: string;
  retry_after_seconds?: number;
}
export interface BatchReply {
  results: {
    status: number;
  }[];
}
export interface BreakerDetail {
  agent_id: string;
  consecutive_failures: number;
  degraded: boolean;
  epoch: string | null;
  failure_count: number;
  failure_rate: number;
  hold?: HoldView;
  latency?: Latency;
  leases: LeaseView[];
  opened_at: string | null;
  policy: {[name: string]: PolicyValue};
  policy_problem?: string;
  probes?: ProbeView;
  ramp?: RampView;
  reason: string | null;
  reopens: number;
  reporters?: {[name: string]: string};
  series: SeriesView;
  state: "CLOSED" | "OPEN" | "HALF_OPEN";
  timeout_until: string | null;
  totals: TotalsView;
}
export interface CascadesReply {
  cascades: Trip[];
  edges: number;
  truncated: boolean;
}
export interface CertificateView {
  not_after: string | null;
  role: "listen" | "listen_ca" | "redis" | "redis_ca";
  subject: string;
}
export interface Change {
  after: any;
  before: any;
}
export interface Check {
  advice?: string;
  code?: string;
  degraded: boolean;
  detail?: string;
  latency_ms?: number;
  score: number;
  server?: string;
  since: string;
  status: "healthy" | "degraded" | "unhealthy";
  unsent?: Unsent;
  warnings?: string[] | null;
}
export interface ChecksReply {
  checks: {[name: string]: Check};
  replica_id: string;
  score: number;
  status: "healthy" | "degraded" | "unhealthy";
  uptime_seconds: number;
  version: string;
}
export interface Count {
  methods?: string[];
  path_prefixes?: string[];
}
export interface CpuView {
  cores: number;
  share: number;
}
export interface DeadLetter {
  agent_id: string;
  at_ms: number;
  error: string;
  event: string;
  id: string;
  tries: number;
}
export interface Event {
  actor: string | null;
  address: string | null;
  at: string;
  at_ms: number;
  calls: number;
  change?: Change;
  consecutive_failures: number;
  epoch: string;
  event: string;
  failures: number;
  from: "CLOSED" | "OPEN" | "HALF_OPEN" | null;
  reason: string;
  slow: number;
  to: "CLOSED" | "OPEN" | "HALF_OPEN" | null;
}
export interface EventsReply {
  events: Event[];
}
export interface ExplainReply {
  agent_id: string;
  because: ReasonClause[];
  degraded: boolean;
  next: ReasonClause[];
  not_tripping: ReasonClause[];
  now_ms: number;
  state: "CLOSED" | "OPEN" | "HALF_OPEN";
}
export interface FieldError {
  location?: string;
  message: string;
  value?: string;
}
export interface Finding {
  action: string;
  agent_id: string | null;
  code: "replica_missing" | "policy_differs" | "gate_behind" | "degraded" | "outcomes_wait" | "store_differs" | "switch_off" | "bad_key" | "hand_edit" | "wrong_expiry" | "not_in_index" | "not_listed" | "cannot_be_read" | "override_invalid";
  detail: string;
  key: string | null;
  replica: string | null;
}
export interface FindingsReply {
  agents: number;
  findings: Finding[];
  next_cursor: string | null;
  now_ms: number;
  replicas: number;
}
export interface FirstByte {
  p50_ms: number;
  p99_ms: number;
}
export interface Flapper {
  agent_id: string;
  openings: number;
}
export interface ForceReply {
  agent_id: string;
  created?: boolean;
  endless?: boolean;
  nearest?: string[] | null;
  state: "CLOSED" | "OPEN" | "HALF_OPEN";
  status: "reset" | "opened" | "closed" | "released";
}
export interface GateBody {
  action: "stop" | "shed" | "recover";
  duration_seconds?: number;
  percentage?: number;
  reason: string;
  reset_open?: boolean;
  until_seconds?: number;
}
export interface GateReply {
  acknowledged: string[];
  action: "none" | "stop" | "shed" | "recover";
  actor: string | null;
  from: number;
  length_seconds: number;
  missing: string[];
  not_covered: string[];
  now_ms: number;
  problem?: string;
  reason: string | null;
  reset_action?: string;
  share: number;
  started_at: string | null;
  to: number;
  until: string | null;
}
export interface GateSummary {
  action: "none" | "stop" | "shed" | "recover";
  actor: string | null;
  reason: string | null;
  share: number;
  since: string | null;
  until: string | null;
}
export interface HealthReply {
  replica_id: string;
  score: number;
  status: "healthy" | "degraded" | "unhealthy";
  uptime_seconds: number;
  version: string;
}
export interface HistoryReply {
  agent_id: string;
  kept_minutes: number;
  minutes: MinuteView[];
  now_ms: number;
}
export interface HoldBody {
  actor?: string;
  force?: boolean;
  protected?: boolean;
  reason?: string;
  timeout_seconds?: number;
}
export interface HoldCounts {
  closed: number;
  open: number;
  protected: number;
}
export interface HoldView {
  actor: string | null;
  kind: "OPEN" | "CLOSED";
  protected: boolean;
  since: string | null;
  until: string | null;
}
export interface LabelCount {
  agents: number;
  name: string;
  not_closed: number;
  value: string;
}
export interface Latency {
  average_ms: number;
  calls: number;
  first_byte?: FirstByte;
  p50_ms: number;
  p95_ms: number;
  p99_ms: number;
  replicas: number;
  since: string;
}
export interface LatencyReply {
  agents: AgentLatency[];
  degraded: boolean;
  total: number;
}
export interface LeaseView {
  permit: string;
  since: string;
  until: string;
}
export interface ListEntry {
  agent_id: string;
  consecutive_failures: number;
  degraded: boolean;
  epoch: string | null;
  failure_count: number;
  failure_rate: number;
  hold?: HoldView;
  last_seen?: string;
  mode: "enforce" | "observe" | "disabled";
  opened_at: string | null;
  override?: OverrideView;
  probes?: ProbeView;
  profile?: ProfileView;
  ramp?: RampView;
  reason: string | null;
  reopens: number;
  series?: SeriesView;
  state: "CLOSED" | "OPEN" | "HALF_OPEN";
  timeout_until: string | null;
  totals: TotalsView;
  window?: WindowView;
}
export interface ListReply {
  circuit_breakers: ListEntry[];
  next_cursor: string | null;
  now_ms: number;
  total: number;
}
export interface LiveReply {
  status: "ok";
}
export interface MemoryView {
  limit_bytes: number;
  used_bytes: number;
}
export interface MinuteView {
  at: string;
  calls: number;
  failures: number;
  slow: number;
}
export interface Named {
  count: number;
  names: string[];
}
export interface OldOpening {
  actor: string | null;
  agent_id: string;
  calls: number;
  failures: number;
  held: boolean;
  opened_at: string | null;
  reason: string | null;
}
export interface OpeningAt {
  agent_id: string;
  at: string;
}
export interface OverrideView {
  at: string | null;
  by: string | null;
  ended: boolean;
  problem: string | null;
  reason: string | null;
  until: string | null;
}
export interface PolicyValue {
  origin: string;
  value: any;
}
export interface ProbeView {
  failed: number;
  live: number;
  max: number;
  need: number;
  succeeded: number;
}
export interface Problem {
  agent?: string;
  code: string;
  degraded?: boolean;
  detail: string;
  errors: FieldError[] | null;
  nearest?: string[] | null;
  reason?: string;
  retry_after_seconds?: number;
  state?: "OPEN" | "HALF_OPEN";
  status: number;
  title: string;
  type: string;
}
export interface Profile {
  classify?: "status" | "jsonrpc" | "mcp" | "mcp_strict" | "llm" | "grpc" | "auto";
  classify_observe?: "status" | "jsonrpc" | "mcp" | "mcp_strict" | "llm" | "grpc" | "auto";
  contact?: string;
  count?: Count;
  failure_statuses?: any[];
  first_token_timeout_seconds?: number;
  idle_timeout_seconds?: number;
  ignored_statuses?: any[];
  labels?: {[name: string]: string};
  timeout_seconds?: number;
  url?: string;
}
export interface ProfileView {
  contact: string | null;
  labels: {[name: string]: string};
  url: string | null;
}
export interface QuarantineReply {
  items: any[];
}
export interface RampView {
  since: string | null;
  until: string | null;
}
export interface ReadyReply {
  status: "ready";
}
export interface ReasonClause {
  clause: string;
  code: string;
  text: string;
  values: {[name: string]: any};
}
export interface ReleaseBody {
  actor?: string;
  force?: boolean;
  reason?: string;
}
export interface RenewBody {
  permit: string;
}
export interface RenewReply {
  lease_seconds: number;
}
export interface ReplicaCounts {
  alive: number;
  behind_gate: Named;
  degraded: Named;
  missing: Named;
  not_enabled: Named;
  waiting: number;
}
export interface ReplicaView {
  age_seconds: number;
  agents: number;
  certificates: CertificateView[];
  consistency: string;
  cpu: CpuView;
  degraded_since: string | null;
  drifts: boolean;
  enabled: boolean;
  gate: string;
  goroutines: number;
  heartbeat_ms: number;
  host: string;
  id: string;
  labels: {[name: string]: string};
  last_error: string | null;
  last_error_at: string | null;
  listen: string[];
  memory: MemoryView;
  policy: string;
  program: string;
  round_trip_ms: Trips;
  started_at: string | null;
  state: "alive" | "suspect" | "gone";
  store: string;
  version: string;
  waiting: Waiting;
}
export interface ReplicasReply {
  degraded: boolean;
  now_ms: number;
  replicas: ReplicaView[];
  self: string;
}
export interface ReportBody {
  duration_ms?: number;
  error?: string;
  outcome: "success" | "failure" | "ignored";
  permit?: string;
  reporter?: string;
  retry_after_seconds?: number;
}
export interface ReportReply {
  counted: boolean;
  degraded?: boolean;
  state: "CLOSED" | "OPEN" | "HALF_OPEN" | null;
  why?: string;
}
export interface ResetBody {
  actor?: string;
  force?: boolean;
  gradual_seconds?: number;
  reason?: string;
  target_state: "HALF_OPEN" | "CLOSED";
}
export interface RestoreReply {
  born: string;
  dry_run: boolean;
  filed: number;
  sections: RestoredSection[];
  taken_at: string;
  unfiled: Unfiled;
  version: string;
}
export interface RestoredSection {
  create: number;
  expired: number;
  names: {[name: string]: string[] | null};
  newer: number;
  replace: number;
  same: number;
  section: "gate" | "overrides" | "profiles" | "holds" | "breakers" | "workflows" | "registry" | "audit";
}
export interface Selector {
  hold?: string[] | null;
  label?: string[] | null;
  mode?: string[] | null;
  override?: string;
  q?: string;
  ramping?: boolean;
  reason?: string;
  state?: string[] | null;
}
export interface SeriesSlot {
  calls: number;
  failures: number;
  slot: number;
}
export interface SeriesView {
  points: SeriesSlot[];
  slot_seconds: number;
  slots: number;
}
export interface StreamEntry {
  actor: string | null;
  address: string | null;
  agent_id: string | null;
  at: string;
  at_ms: number;
  calls: number;
  change?: Change;
  consecutive_failures: number;
  epoch: string;
  event: string;
  failures: number;
  from: "CLOSED" | "OPEN" | "HALF_OPEN" | null;
  id: string;
  reason: string;
  slow: number;
  to: "CLOSED" | "OPEN" | "HALF_OPEN" | null;
}
export interface StreamReply {
  events: StreamEntry[];
  gap: boolean;
  next_cursor: string | null;
}
export interface SummaryReply {
  agents: number;
  causes: {[name: string]: number};
  enabled: boolean;
  flappers: Flapper[];
  gate: GateSummary;
  holds: HoldCounts;
  idle: Named;
  invalid_overrides: Named;
  labels: LabelCount[];
  last_opening?: OpeningAt;
  modes: {[name: string]: number};
  next_probe?: OpeningAt;
  now_ms: number;
  oldest_open: OldOpening[];
  overrides: number;
  ramping: number;
  replicas: ReplicaCounts;
  states: {[name: string]: number};
  unreadable: Named;
  unregistered: Named;
}
export interface TokenView {
  agents: string[];
  expired: boolean;
  expires_at: string | null;
  name: string;
  role: "read" | "report" | "operate" | "admin";
  subject: string | null;
  token: boolean;
}
export interface TokensReply {
  file: string | null;
  problem?: string;
  tokens: TokenView[];
}
export interface TotalsView {
  failures: number;
  successes: number;
  transitions: number;
}
export interface Trip {
  agent_id: string;
  at_ms: number;
  cause: string;
  epoch: string;
  followed: Trip[];
  opened_at: string;
  openings: number;
  via: string[];
}
export interface Trips {
  p50: number;
  p99: number;
}
export interface Unfiled {
  count: number;
  names: string[];
}
export interface Unsent {
  agents: number;
  oldest_seconds: number;
  outcomes: number;
}
export interface View {
  agents: string[];
  cursor: string | null;
  dead: DeadLetter[];
  dead_letters: number;
  format: "json" | "slack";
  host: string;
  kinds: string[];
  lag_events: number;
  lag_seconds: number;
  last_error: string | null;
  last_error_at: string | null;
  name: string;
  next_try_at: string | null;
  sender: string | null;
  sent: number;
  signed: boolean;
  tries: number;
}
export interface Waiting {
  age_seconds: number;
  agents: number;
  outcomes: number;
}
export interface WebhooksReply {
  webhooks: View[];
}
export interface WhoamiReply {
  agents: string[] | null;
  by: "token" | "session" | "certificate" | null;
  name: string | null;
  role: "read" | "report" | "operate" | "admin";
  until: string | null;
}
export interface WindowView {
  calls: number;
  failures: number;
  seconds: number;
  slow: number;
  successes: number;
}
export interface Reads {
  "/health": HealthReply;
  "/health/checks": ChecksReply;
  "/livez": LiveReply;
  "/readyz": ReadyReply;
  "/v1/admin/actions/{action}": ActionReply;
  "/v1/admin/agents/{agent}": AgentReply;
  "/v1/admin/audit": AuditReply;
  "/v1/admin/cascades": CascadesReply;
  "/v1/admin/checks": ChecksReply;
  "/v1/admin/circuit_breakers": ListReply;
  "/v1/admin/circuit_breakers/{agent}": BreakerDetail;
  "/v1/admin/circuit_breakers/{agent}/config": {
    _at?: string;
    _by?: string;
    _ended?: boolean;
    _reason?: string;
    _until?: string;
    abandoned_probe?: string;
    abandoned_seconds?: number;
    consistency?: string;
    enabled?: boolean;
    failure_rate_threshold?: number;
    failure_threshold?: number;
    half_open_max_calls?: number;
    half_open_success_threshold?: number;
    minimum_calls?: number;
    minimum_reporters?: number;
    mode?: string;
    on_store_error?: string;
    probe_settle_seconds?: number;
    probe_timeout_seconds?: number;
    ramp_floor?: number;
    recovery_ramp_seconds?: number;
    retry_after?: string;
    retry_after_max_seconds?: number;
    slow_call_duration_seconds?: number;
    slow_call_rate_threshold?: number;
    timeout_jitter?: number;
    timeout_max_seconds?: number;
    timeout_multiplier?: number;
    timeout_seconds?: number;
    window_size_seconds?: number;
  };
  "/v1/admin/circuit_breakers/{agent}/events": EventsReply;
  "/v1/admin/circuit_breakers/{agent}/explain": ExplainReply;
  "/v1/admin/circuit_breakers/{agent}/history": HistoryReply;
  "/v1/admin/events": StreamReply;
  "/v1/admin/fleet": GateReply;
  "/v1/admin/latency": LatencyReply;
  "/v1/admin/quarantine": QuarantineReply;
  "/v1/admin/replicas": ReplicasReply;
  "/v1/admin/summary": SummaryReply;
  "/v1/admin/tokens": TokensReply;
  "/v1/admin/verify": FindingsReply;
  "/v1/admin/webhooks": WebhooksReply;
  "/v1/gate/{agent}": AcquireReply;
  "/v1/gate/{agent}/{path}": AcquireReply;
  "/v1/whoami": WhoamiReply;
}
export interface Writes {
  "DELETE /v1/admin/circuit_breakers/{agent}": {body: undefined; answer: void};
  "DELETE /v1/admin/circuit_breakers/{agent}/config": {body: undefined; answer: void};
  "DELETE /v1/admin/fleet": {body: undefined; answer: GateReply};
  "DELETE /v1/session": {body: undefined; answer: void};
  "POST /v1/admin/actions": {body: ActionBody; answer: ActionReply};
  "POST /v1/admin/circuit_breakers/{agent}/close": {body: HoldBody; answer: ForceReply};
  "POST /v1/admin/circuit_breakers/{agent}/open": {body: HoldBody; answer: ForceReply};
  "POST /v1/admin/circuit_breakers/{agent}/release": {body: ReleaseBody; answer: ForceReply};
  "POST /v1/admin/circuit_breakers/{agent}/reset": {body: ResetBody; answer: ForceReply};
  "POST /v1/admin/restore": {body: undefined; answer: RestoreReply};
  "POST /v1/batch": {body: BatchBody; answer: BatchReply};
  "POST /v1/circuit_breakers/{agent}/acquire": {body: AcquireBody; answer: AcquireReply};
  "POST /v1/circuit_breakers/{agent}/renew": {body: RenewBody; answer: RenewReply};
  "POST /v1/circuit_breakers/{agent}/report": {body: ReportBody; answer: ReportReply};
  "POST /v1/session": {body: undefined; answer: WhoamiReply};
  "PUT /v1/admin/agents/{agent}": {body: Profile; answer: AgentReply};
  "PUT /v1/admin/circuit_breakers/{agent}/config": {body: {
    _at?: string;
    _by?: string;
    _ended?: boolean;
    _reason?: string;
    _until?: string;
    abandoned_probe?: string;
    abandoned_seconds?: number;
    consistency?: string;
    enabled?: boolean;
    failure_rate_threshold?: number;
    failure_threshold?: number;
    half_open_max_calls?: number;
    half_open_success_threshold?: number;
    minimum_calls?: number;
    minimum_reporters?: number;
    mode?: string;
    on_store_error?: string;
    probe_settle_seconds?: number;
    probe_timeout_seconds?: number;
    ramp_floor?: number;
    recovery_ramp_seconds?: number;
    retry_after?: string;
    retry_after_max_seconds?: number;
    slow_call_duration_seconds?: number;
    slow_call_rate_threshold?: number;
    timeout_jitter?: number;
    timeout_max_seconds?: number;
    timeout_multiplier?: number;
    timeout_seconds?: number;
    window_size_seconds?: number;
  }; answer: {
    _at?: string;
    _by?: string;
    _ended?: boolean;
    _reason?: string;
    _until?: string;
    abandoned_probe?: string;
    abandoned_seconds?: number;
    consistency?: string;
    enabled?: boolean;
    failure_rate_threshold?: number;
    failure_threshold?: number;
    half_open_max_calls?: number;
    half_open_success_threshold?: number;
    minimum_calls?: number;
    minimum_reporters?: number;
    mode?: string;
    on_store_error?: string;
    probe_settle_seconds?: number;
    probe_timeout_seconds?: number;
    ramp_floor?: number;
    recovery_ramp_seconds?: number;
    retry_after?: string;
    retry_after_max_seconds?: number;
    slow_call_duration_seconds?: number;
    slow_call_rate_threshold?: number;
    timeout_jitter?: number;
    timeout_max_seconds?: number;
    timeout_multiplier?: number;
    timeout_seconds?: number;
    window_size_seconds?: number;
  }};
  "PUT /v1/admin/fleet": {body: GateBody; answer: GateReply};
}
