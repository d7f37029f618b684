package docs

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestGitHub_WorkflowsRunWhatContributorsRun reads the workflows and the issue forms by a parser.
func TestGitHub_WorkflowsRunWhatContributorsRun(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]string{"ci": ".ci/run", "nightly": "make nightly"} {
		var w struct {
			On   any                                         `yaml:"on"`
			Jobs map[string]struct{ Steps []map[string]any } `yaml:"jobs"`
		}
		decode(t, ".github/workflows/"+name+".yml", &w)
		runs := slices.ContainsFunc(w.Jobs[name].Steps, func(step map[string]any) bool {
			run, _ := step["run"].(string)
			return strings.HasSuffix(run, " "+command)
		})
		if w.On == nil || !runs {
			t.Errorf("%s.yml: job %s does not run %s", name, name, command)
		}
	}
	forms, err := filepath.Glob(filepath.Join(root, ".github/ISSUE_TEMPLATE/[^c]*.yml"))
	if err != nil || len(forms) != 2 {
		t.Fatalf("%d issue forms, %v", len(forms), err)
	}
	for _, path := range forms {
		var form struct {
			Name, Description string
			Body              []struct {
				Type, ID   string
				Attributes struct{ Label string }
			}
		}
		decode(t, ".github/ISSUE_TEMPLATE/"+filepath.Base(path), &form)
		if form.Name == "" || form.Description == "" || len(form.Body) == 0 {
			t.Errorf("%s: a form has a name, a description and a body", path)
		}
		ids := map[string]bool{}
		for _, f := range form.Body {
			if ids[f.ID] || f.ID == "" || f.Attributes.Label == "" || !slices.Contains([]string{"input", "textarea"}, f.Type) {
				t.Errorf("%s: field %+v", path, f)
			}
			ids[f.ID] = true
		}
	}
}

func decode(t *testing.T, name string, v any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), v); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}
