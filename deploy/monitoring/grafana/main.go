// Command grafana writes the boards of Grafana beside it, dashboards/*.json.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

func main() {
	for name, b := range boards() {
		if err := write(filepath.Join("dashboards", name+".json"), b); err != nil {
			fmt.Fprintln(os.Stderr, "grafana:", err)
			os.Exit(1)
		}
	}
}

func write(path string, b board) error {
	built, err := b.builder().Build()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// board is one board of panels, four or two in a row.
type board struct {
	uid, title, about string
	perAgent          bool // it has a variable agent
	panels            []panel
}

// panel shows queries, as a number (one query), as lines, or as a table (one query).
type panel struct {
	kind          string
	title, about  string
	unit          string
	queries       []query
	bad, worse    float64 // of a number: yellow from bad on, red from worse on; below them if worse is less
	width, height uint32
}

type query struct{ expr, legend string }

const (
	number = "number"
	lines  = "lines"
	list   = "list"
)

var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

func (b board) builder() *dashboard.DashboardBuilder {
	d := dashboard.NewDashboardBuilder(b.title).Uid(b.uid).Description(b.about).Tags([]string{"breakerd"}).
		Refresh("10s").Time("now-1h", "now").Timezone("browser").Tooltip(dashboard.DashboardCursorSyncCrosshair).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Prometheus").Type("prometheus")).
		WithVariable(variable("fleet", "circuit_breaker_build_info", "fleet"))
	if b.perAgent {
		d.WithVariable(variable("agent", `circuit_breaker_state{fleet=~"$fleet"}`, "agent"))
	}
	d.Link(dashboard.NewDashboardLinkBuilder("breakerd").Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"breakerd"}).
		AsDropdown(true).KeepTime(true).IncludeVars(true))
	for i, p := range b.panels {
		d.WithPanel(p.builder(uint32(i + 1)))
	}
	return d
}

// variable offers the values of a label. A fleet without the label has an empty one, which All matches as well.
func variable(name, metric, label string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Datasource(source).
		Query(dashboard.StringOrMap{String: cog.ToPtr("label_values(" + metric + ", " + label + ")")}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).IncludeAll(true).AllValue(".*").
		Current(dashboard.VariableOption{
			Text:  dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
			Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		})
}

func (p panel) builder(id uint32) cog.Builder[dashboard.Panel] {
	var targets []cog.Builder[variants.Dataquery]
	for i, q := range p.queries {
		t := prometheus.NewDataqueryBuilder().Expr(q.expr).LegendFormat(q.legend).RefId(string(rune('A' + i)))
		if p.kind == list {
			t.Instant().Format(prometheus.PromQueryFormatTable)
		} else {
			t.Range()
		}
		targets = append(targets, t)
	}
	switch p.kind {
	case number:
		return stat.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Unit(p.unit).
			Targets(targets).Thresholds(p.thresholds()).Span(6).Height(5).NoValue("none")
	case list:
		return table.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Unit(p.unit).
			Targets(targets).Span(12).Height(8)
	default:
		return timeseries.NewPanelBuilder().Id(id).Title(p.title).Description(p.about).Datasource(source).Unit(p.unit).
			Targets(targets).Span(12).Height(8).Min(0)
	}
}

// thresholds colour a number.
func (p panel) thresholds() *dashboard.ThresholdsConfigBuilder {
	colours := []dashboard.Threshold{{Color: "green"}, {Color: "yellow", Value: &p.bad}, {Color: "red", Value: &p.worse}}
	switch {
	case p.bad == 0 && p.worse == 0:
		colours = []dashboard.Threshold{{Color: "text"}}
	case p.worse < p.bad:
		colours = []dashboard.Threshold{{Color: "red"}, {Color: "yellow", Value: &p.worse}, {Color: "green", Value: &p.bad}}
	}
	return dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(colours)
}
