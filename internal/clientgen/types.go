package clientgen

import (
	"bytes"
	"fmt"
	"go/format"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// goType is a Go type that is made of a schema. A schema without a row of goTypes fails the test. After
// a new row, go test ./internal/clientgen -update writes its type.
type goType struct {
	schema string // of the Document's components; op:id for the answer of an operation; Type.field for what is in one
	name   string
	about  string // how its comment goes on after its name
	embeds string // a type whose fields it has, too
	ptr    string // the number or bool that is a pointer where it may be left out, for 0 and false are values; "*": each
	sent   bool   // it is sent, too, and then no field is required
	any    bool   // what may be anything is an any; else it is JSON as it was sent
}

func goTypes() []goType {
	return []goType{
		{schema: "AcquireBody", name: "AcquireRequest", about: "says on whose behalf a call is made. Its zero value says nothing."},
		{schema: "AcquireReply", name: "AcquireReply", about: "is a permit."},
		{schema: "ReportBody", name: "ReportRequest", about: "is how a call ended."},
		{schema: "ReportReply", name: "ReportReply", about: "says what became of a report."},
		{schema: "RenewBody", name: "RenewRequest", about: "names the probe whose lease is lengthened."},
		{schema: "RenewReply", name: "RenewReply", about: "is the lengthened lease of a probe."},
		{schema: "BatchOp", name: "BatchOp", about: "is one acquire, report or renew of a batch. Which fields it takes depends on Op."},

		{schema: "BreakerEntry", name: "Breaker", about: "is one agent's breaker, as lists show it."},
		{schema: "HoldView", name: "Hold", about: "is an operator's decision on a breaker."},
		{schema: "ProbeView", name: "Probes", about: "is a half-open breaker's round of probes."},
		{schema: "RampView", name: "Ramp", about: "is a gradual return."},
		{schema: "TotalsView", name: "Totals", about: "are what a breaker has counted since it came into being."},
		{schema: "BreakerDetail", name: "BreakerDetail", about: "is one agent's breaker with its policy.", embeds: "Breaker"},
		{schema: "PolicyValue", name: "PolicyValue", about: "is a value of a policy, and the layer that it comes from."},
		{schema: "ListEntry", name: "ListEntry", about: "is one breaker of a list.", embeds: "Breaker"},
		{schema: "WindowView", name: "Window", about: "is what a breaker's window holds."},
		{schema: "ProfileView", name: "ListedProfile", about: "is what people say of an agent of a list."},
		{schema: "OverrideView", name: "ListedOverride", about: "says of an override what its values do not."},
		{schema: "ListReply", name: "BreakerList", about: "is a page of a list of breakers."},
		{schema: "ExplainReply", name: "Explanation", about: "says why a breaker is as it is."},
		{schema: "ReasonClause", name: "ReasonClause", about: "is one reason of an Explanation.", any: true},
		{schema: "HoldBody", name: "HoldRequest", about: "asks for a hold. Reason is needed."},
		{schema: "ResetBody", name: "ResetRequest", about: "asks for a reset. TargetState is needed."},
		{schema: "ReleaseBody", name: "ReleaseRequest", about: "asks for the end of a hold."},
		{schema: "ForceReply", name: "ForceReply", about: "is a breaker after an operator's verb."},
		{schema: "op:getConfig", name: "Override", about: "is an agent's policy override. A field that is nil overrides nothing.", ptr: "*"},

		{schema: "Calls", name: "Calls", about: "say how the bridge judges, counts and bounds calls of an agent.", any: true},
		{schema: "Count", name: "Count", about: "says which calls of an agent its breaker counts."},
		{schema: "Profile", name: "Profile", about: "is what people write about an agent.", embeds: "Calls"},
		{schema: "AgentReply", name: "Agent", about: "is an agent's profile, and how its breaker stands.", embeds: "Calls"},
		{schema: "QuarantineReply", name: "Quarantine", about: "is an agent's failed and refused calls."},

		{schema: "GateBody", name: "FleetRequest", about: "asks for a gate of the fleet. Action and Reason are needed."},
		{schema: "GateReply", name: "Fleet", about: "is the fleet's gate: the share of all calls that every replica admits."},
		{schema: "ReplicasReply", name: "ReplicaList", about: "is every replica of the fleet."},
		{schema: "ReplicaView", name: "Replica", about: "is a replica, by its heartbeat."},
		{schema: "CpuView", name: "CPU", about: "is how busy a replica is."},
		{schema: "MemoryView", name: "Memory", about: "is the memory of a replica."},
		{schema: "CertificateView", name: "Certificate", about: "is a certificate that a replica has loaded."},
		{schema: "Waiting", name: "Waiting", about: "is what a replica has not sent to Redis yet."},
		{schema: "Trips", name: "RoundTrips", about: "are quantiles of a replica's calls of Redis, in milliseconds."},

		{schema: "WhoamiReply", name: "Caller", about: "is who makes a request, and what he may do."},

		{schema: "RestoreReply", name: "Restoration", about: "is what has become, or would become, of a backup that is restored."},
		{schema: "RestoredSection", name: "RestoredSection", about: "is what has become of one section of a backup."},
		{schema: "Unfiled", name: "Unfiled", about: "are agents of a backup of which a registry's file says something else."},

		{schema: "TokensReply", name: "TokenList", about: "is who is in AUTH_FILE."},
		{schema: "TokenView", name: "TokenEntry", about: "is an entry of AUTH_FILE, without what proves who somebody is."},

		{schema: "WebhooksReply", name: "WebhookList", about: "is every webhook of a replica's file."},
		{schema: "View", name: "Webhook", about: "is a webhook: who sends, how far, and what was given up."},
		{schema: "DeadLetter", name: "DeadLetter", about: "is a message of a webhook that was given up."},

		{schema: "FindingsReply", name: "FindingList", about: "is a page of what is wrong in the fleet."},
		{schema: "Finding", name: "Finding", about: "is something that is not as it should be."},

		{schema: "SummaryReply", name: "Summary", about: "is what is wrong in the fleet, in counts."},
		{schema: "HoldCounts", name: "HoldCounts", about: "are the holds of the fleet."},
		{schema: "LabelCount", name: "LabelCount", about: "counts the agents that have a label."},
		{schema: "OldOpening", name: "OldOpening", about: "is a breaker that has been open for long."},
		{schema: "OpeningAt", name: "OpeningAt", about: "is an agent whose breaker opened, or lets probes through, and when."},
		{schema: "Flapper", name: "Flapper", about: "is a breaker that opens often."},
		{schema: "Named", name: "Named", about: "counts agents, or replicas, and names the first of them."},
		{schema: "GateSummary", name: "GateSummary", about: "is the fleet's gate in short."},
		{schema: "ReplicaCounts", name: "ReplicaCounts", about: "counts the replicas, and names those that somebody should look at."},
		{schema: "CascadesReply", name: "Cascades", about: "say which agents failed first, and which ones that call them followed."},
		{schema: "LatencyReply", name: "LatencyList", about: "are agents by how long their calls took."},
		{schema: "AgentLatency", name: "AgentLatency", about: "is how long the calls of one agent took.", embeds: "Latency"},
		{schema: "Latency", name: "Latency", about: "is how long calls took in about the last ten minutes."},
		{schema: "FirstByte", name: "FirstByte", about: "is how long the first bytes of answers took."},
		{schema: "Trip", name: "Trip", about: "is an agent whose breaker has opened, and those that opened after it because they call it."},

		{schema: "ActionBody", name: "ActionRequest", about: "changes the breakers of many agents. Action and Reason are needed, and Agents or a Selector.", ptr: "expect"},
		{schema: "Selector", name: "Selector", about: "says which agents are meant, in the words of a list's query."},
		{schema: "ActionReply", name: "Action", about: "is what has become of an action."},
		{schema: "ActionResult", name: "ActionResult", about: "is what has become of one agent's part of an action."},

		{schema: "Event", name: "Event", about: "is something that happened to a breaker, or to the fleet."},
		{schema: "Change", name: "Change", about: "is what became of an agent's Document."},
		{schema: "EventsReply", name: "AgentEvents", about: "are the newest events of one agent."},
		{schema: "SeriesView", name: "Series", about: "is what was called of an agent, in slots of time of the same length."},
		{schema: "SeriesSlot", name: "SeriesSlot", about: "is what was called of an agent within one slot of a Series."},
		{schema: "LeaseView", name: "Lease", about: "is a probe that is under way."},
		{schema: "HistoryReply", name: "History", about: "is what was called of an agent, minute by minute."},
		{schema: "MinuteView", name: "Minute", about: "is what was called of an agent within one minute."},
		{schema: "StreamEntry", name: "FleetEvent", about: "is an event with its place in the stream.", embeds: "Event"},
		{schema: "StreamReply", name: "FleetEvents", about: "is a page of the stream of events."},
		{schema: "AuditReply", name: "Audit", about: "is a page of the audit."},

		{schema: "LiveReply", name: "Live", about: "says that the process answers."},
		{schema: "ReadyReply", name: "Ready", about: "says that the replica wants calls."},
		{schema: "HealthReply", name: "Health", about: "says how well a replica is."},
		{schema: "ChecksReply", name: "Checks", about: "says how well a replica is, part by part.", embeds: "Health"},
		{schema: "Check", name: "Check", about: "is one part of a replica's health."},
		{schema: "Unsent", name: "Unsent", about: "are outcomes that Redis has not acknowledged yet."},

		{schema: "op:listAgents", name: "RegistrationList", about: "is a page of the bridge's agents."},
		{schema: "RegistrationList.agents", name: "Registration", about: "is an agent as the bridge knows it. To register one, Name is needed.", embeds: "Calls", sent: true},
		{schema: "op:getWorkflow", name: "Workflow", about: "is the definition of a workflow."},
		{schema: "Workflow.steps", name: "Step", about: "is one step of a workflow.", any: true},
		{schema: "WorkflowsReply", name: "WorkflowList", about: "is every workflow of the bridge."},
		{schema: "Entry", name: "WorkflowEntry", about: "is a workflow of a list."},
		{schema: "ExecuteBody", name: "ExecuteRequest", about: "is what an execution is given.", any: true},
		{schema: "Execution", name: "Execution", about: "is one finished run of a workflow."},
		{schema: "StepResult", name: "StepResult", about: "is the result of one step."},
		{schema: "ExecutionError", name: "ExecutionError", about: "is why an execution or a step did not complete."},

		{schema: "Problem", name: "problem", about: "is the body of an answer that is no success, an Error to callers."},
		{schema: "FieldError", name: "FieldError", about: "says what is wrong with one value that was sent."},
	}
}

// byHand are the schemas whose types stand in the package's other files: parts of them depend on others.
func byHand() map[string]string {
	return map[string]string{"BatchBody": "[]BatchOp", "BatchReply": "[]BatchResult"}
}

// Generator makes the Go types of schemas. It reads the codes of problems from their source, below ../problem.
type Generator struct {
	testing.TB

	schemas map[string]*Schema // by the names of goTypes
	used    map[string]bool    // Go types that some operation needs
	tagged  map[string]bool    // Go types that are answered with an ETag
}

// New makes a Generator for the types of these documents.
func New(t testing.TB, docs ...Document) *Generator {
	t.Helper()
	g := &Generator{TB: t, schemas: map[string]*Schema{}, used: map[string]bool{}, tagged: map[string]bool{}}
	for _, d := range docs {
		for name, s := range d.Components.Schemas {
			if before := g.schemas[name]; before != nil && len(before.Properties) > len(s.Properties) {
				continue // the bridge's Problem has more
			}
			g.schemas[name] = s
		}
		for id, op := range d.Operations() {
			if ok := op.Responses["200"]; ok != nil && ok.json() != nil && ok.json().Properties != nil {
				g.schemas["op:"+id] = ok.json()
			}
		}
	}
	g.schemas["RegistrationList.agents"] = g.schemas["op:listAgents"].Properties["agents"].Items
	g.schemas["Workflow.steps"] = g.schemas["op:getWorkflow"].Properties["steps"].values(t)
	return g
}

// TypeOf is the Go type of a schema.
func (g *Generator) TypeOf(s *Schema) string {
	g.Helper()
	return g.typeOf(s, false)
}

// typeOf is TypeOf; free: what may be anything is an any.
func (g *Generator) typeOf(s *Schema, free bool) string {
	g.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		if hand := byHand()[name]; hand != "" {
			return hand
		}
		return g.named(name)
	}
	for name, known := range g.schemas { // an inline one, as an answer has it or within another
		if s.Properties != nil && strings.ContainsAny(name, ".:") && subset(s, known) {
			if found := slices.IndexFunc(goTypes(), func(t goType) bool { return t.schema == name }); found >= 0 {
				return g.named(name)
			}
		}
	}
	kind, _ := s.kind()
	anything := "json.RawMessage"
	if free {
		anything = "any"
	}
	switch {
	case kind == "" && s.Properties == nil:
		return anything
	case kind == "string" && s.Format == "date-time":
		return "time.Time"
	case kind == "string":
		return "string"
	case kind == "boolean":
		return "bool"
	case kind == "number":
		return "float64"
	case kind == "integer":
		return "int64"
	case kind == "array":
		return "[]" + g.typeOf(s.Items, free)
	case kind == "object" && s.Properties == nil:
		if values := s.values(g.TB); values != nil {
			return "map[string]" + g.typeOf(values, free)
		}
		return "map[string]" + anything
	}
	g.Fatalf("no Go type for %.500v", *s)
	return ""
}

// subset says whether all fields of a are fields of b.
func subset(a, b *Schema) bool {
	for name := range a.Properties {
		if b.Properties[name] == nil {
			return false
		}
	}
	return true
}

// named is the Go type of a schema with a name.
func (g *Generator) named(name string) string {
	g.Helper()
	all := goTypes()
	i := slices.IndexFunc(all, func(t goType) bool { return t.schema == name })
	if i < 0 {
		g.Errorf("schema %s has no row in goTypes: give it a name and a sentence", name)
		return name
	}
	g.used[all[i].name] = true
	return all[i].name
}

// fieldName is the Go name of a JSON field: timeout_until is TimeoutUntil.
func fieldName(json string) string {
	words := strings.Split(json, "_")
	for i, word := range words {
		switch {
		case word == "id" || word == "url" || word == "cpu":
			words[i] = strings.ToUpper(word)
		case word != "":
			words[i] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, "")
}

// write writes one type.
func (g *Generator) write(out *bytes.Buffer, t goType) {
	g.Helper()
	s := g.schemas[t.schema]
	if s == nil {
		g.Fatalf("row %s of goTypes: there is no such schema", t.schema)
	}
	comment(out, "", t.name+" "+t.about)
	fmt.Fprintf(out, "type %s struct {\n", t.name)
	var inherited *Schema
	if t.embeds != "" {
		i := slices.IndexFunc(goTypes(), func(o goType) bool { return o.name == t.embeds })
		inherited = g.schemas[goTypes()[i].schema]
		if !subset(inherited, s) {
			g.Fatalf("%s lacks fields of %s, which it embeds", t.name, t.embeds)
		}
		g.used[t.embeds] = true
		fmt.Fprintf(out, "%s\n\n", t.embeds)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		if inherited != nil && inherited.Properties[name] != nil {
			continue
		}
		f := s.Properties[name]
		of, tag := g.typeOf(f, t.any), name
		if t.name == "problem" && name == "code" {
			of = "Code"
		}
		_, nullable := f.kind()
		if !slices.Contains(s.Required, name) || nullable || t.sent {
			tag += ",omitzero"
			scalar := of == "bool" || of == "int64" || of == "float64"
			if unicode.IsUpper(rune(of[0])) || scalar && (t.ptr == "*" || t.ptr == name) {
				of = "*" + of
			}
		}
		comment(out, "\t", about(f, of))
		fmt.Fprintf(out, "\t%s %s `json:%q`\n", fieldName(name), of, tag)
	}
	if g.tagged[t.name] {
		out.WriteString("\n")
		comment(out, "\t", `The tag of the document that was answered, for the next change of it; "": none.`)
		out.WriteString("\tETag string `json:\"-\"`\n")
	}
	fmt.Fprintf(out, "}\n\n")
}

var nullWord = regexp.MustCompile(`\bnull(:| when)`)

// about is the comment of a field of a Go type. null is its zero value.
func about(f *Schema, of string) string {
	zero := "zero"
	if of == "string" {
		zero = `""`
	}
	text := f.Description
	if of != "json.RawMessage" { // which may be null
		text = nullWord.ReplaceAllString(text, zero+"$1")
	}
	if text != "" && !strings.ContainsAny(text[len(text)-1:], ".?") && !strings.HasSuffix(text, "…") {
		text += "."
	}
	if len(f.Enum) > 0 {
		text += " One of " + strings.ReplaceAll(strings.Trim(fmt.Sprint(f.Enum), "[]"), " ", ", ") + "."
	}
	return strings.TrimSpace(text)
}

// comment writes a comment in lines of 120 columns.
func comment(out *bytes.Buffer, indent, text string) {
	line := indent + "//"
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > 116 {
			fmt.Fprintln(out, line)
			line = indent + "//"
		}
		line += " " + word
	}
	if line != indent+"//" {
		fmt.Fprintln(out, line)
	}
}

const typesHeader = `// Code generated from the OpenAPI documents by go test ./internal/clientgen -update. DO NOT EDIT.

package client

import (
	"encoding/json"
	"time"
)

`

var codeConstant = regexp.MustCompile(`(?m)^\t(\w+) +Code = "(\w+)"$`)

// writeCodes writes a constant for each code of a problem.
func (g *Generator) writeCodes(out *bytes.Buffer) {
	g.Helper()
	source, err := os.ReadFile("../problem/code.go")
	if err != nil {
		g.Fatal(err)
	}
	out.WriteString("// Code is the stable name of what an Error says. A newer server may have others.\ntype Code string\n\n")
	out.WriteString("// The codes.\nconst (\n")
	for _, c := range codeConstant.FindAllStringSubmatch(string(source), -1) {
		fmt.Fprintf(out, "\tCode%s Code = %q\n", c[1], c[2])
	}
	out.WriteString(")\n\n")
}

// Source is the Go source of the types that the operations of the documents need.
func (g *Generator) Source(docs ...Document) []byte {
	g.Helper()
	for _, d := range docs {
		for _, op := range d.Operations() {
			if s := op.Body(); s != nil {
				g.TypeOf(s)
			}
			if s := op.Answer(); s != nil {
				g.tagged[g.TypeOf(s)] = op.tagged() || g.tagged[g.TypeOf(s)]
			}
		}
	}
	out := bytes.NewBufferString(typesHeader)
	g.writeCodes(out)
	for _, row := range goTypes() {
		g.write(out, row)
	}
	for _, row := range goTypes() {
		if !g.used[row.name] && row.name != "BatchOp" && row.name != "problem" {
			g.Errorf("no operation needs %s: delete its row in goTypes", row.name)
		}
	}
	text, err := format.Source(out.Bytes())
	if err != nil {
		g.Fatalf("%v in %s", err, out)
	}
	return text
}
