//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository is the fleet repository of one test, written with the git command.
type repository struct {
	t   *testing.T
	dir string
}

// files is content by path; an empty text removes the file.
type files map[string]string

func newRepository(t *testing.T, dir string) *repository {
	t.Helper()
	r := &repository{t, dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.git("init", "--quiet", "--initial-branch=main")
	return r
}

// commit writes the files and commits them, in one step as seen from outside. It
// returns the commit's hash.
func (r *repository) commit(subject string, changes ...files) string {
	r.t.Helper()
	for _, change := range changes {
		for path, text := range change {
			r.write(path, text)
		}
	}
	r.git("add", "--all")
	r.git("commit", "--quiet", "--message="+subject)
	return r.git("rev-parse", "HEAD")
}

func (r *repository) write(path, text string) {
	r.t.Helper()
	path = filepath.Join(r.dir, path)
	if text == "" {
		if err := os.Remove(path); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r *repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=e2e", "GIT_AUTHOR_EMAIL=e2e@example.com",
		"GIT_COMMITTER_NAME=e2e", "GIT_COMMITTER_EMAIL=e2e@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// plan is what a test says about how its rollout moves.
type plan struct {
	waves            string // YAML of spec.waves, one line for each wave
	maxUnavailable   int
	minHealthyTime   time.Duration
	healthyDeadline  time.Duration
	progressDeadline time.Duration
	onFailure        string
}

// canaryFirst sends every change to the canaries, then to the rest.
func canaryFirst() plan {
	return plan{
		waves:            canaryWave,
		maxUnavailable:   4,
		minHealthyTime:   2 * time.Second,
		healthyDeadline:  30 * time.Second,
		progressDeadline: 60 * time.Second,
		onFailure:        "rollback",
	}
}

const canaryWave = "    - {name: canary, selector: {matchLabels: {ring: canary}}, bake: 1s}\n"

// rolloutName is the rollout of every test.
const rolloutName = "edge"

// manifests declares the selector and the rollout.
func (p plan) manifests() files {
	return files{"fleet/edge.yaml": fmt.Sprintf(`apiVersion: bellwether.dev/v1alpha1
kind: Selector
metadata: {name: edge}
spec:
  matchLabels: {service.name: otelcol, service.namespace: e2e}
---
apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: %s}
spec:
  selector: edge
  config: configs/edge.yaml
  waves:
%s  maxUnavailable: %d
  minHealthyTime: %v
  healthyDeadline: %v
  progressDeadline: %v
  onFailure: %s
`, rolloutName, p.waves, p.maxUnavailable, p.minHealthyTime, p.healthyDeadline, p.progressDeadline, p.onFailure)}
}

// nobody is a repository that declares something, but nothing for our agents.
func nobody() files {
	return files{
		"fleet/nobody.yaml": `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: nobody}
spec:
  selector: {matchLabels: {service.name: nobody}}
  config: configs/nobody.yaml
  waves: [{name: all}]
`,
		"configs/nobody.yaml": collectorConfig("nobody", "debug"),
	}
}

// good is a config every Collector of the tests can run. The version is found
// again in the Supervisor's effective config.
func good(version string) files {
	return files{"configs/edge.yaml": collectorConfig(version, "debug")}
}

// unknownExporter is a config that is well formed and that no Collector of the
// tests can run: it exits at once.
func unknownExporter(version string) files {
	return files{"configs/edge.yaml": collectorConfig(version, "nosuchexporter")}
}

// unparsable is no YAML.
func unparsable() files {
	return files{"configs/edge.yaml": "receivers:\n  otlp: {protocols: {grpc: {endpoint: 127.0.0.1:0}\n exporters: [oops\n"}
}

func collectorConfig(version, exporter string) string {
	return fmt.Sprintf(`# The Collectors of the end-to-end tests, %[1]s.
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:0"}
processors:
  batch: {}
exporters:
  %[2]s: {}
service:
  telemetry:
    metrics: {level: none}
    resource: {e2e.version: %[1]s}
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [%[2]s]}
`, version, exporter)
}
