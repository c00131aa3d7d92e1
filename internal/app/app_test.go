package app_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/app"
	"github.com/bellwether-opamp/bellwether/internal/sim"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// world is a running server, its fleet directory, and a few agents.
type world struct {
	t      *testing.T
	dir    string
	cfg    app.Config
	app    *app.App
	client *web.Client
	stop   func() error
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t: t, dir: dir, cfg: app.Config{
		Git: filepath.Join(dir, "fleet"), DataDir: filepath.Join(dir, "data"), Poll: time.Second,
		ListenOpAMP: "127.0.0.1:0", ListenHTTP: "127.0.0.1:0", ListenAdmin: "127.0.0.1:0",
	}}
	w.write("rollout.yaml", fleetManifest)
	w.write("edge.yaml", fleetConfig)
	return w
}

const fleetManifest = `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: edge}
spec:
  selector: {matchLabels: {service.name: otelcol-edge}}
  config: [edge.yaml]
  waves: [{name: canary, size: 1}]
  maxUnavailable: 100%
  minHealthyTime: 50ms
`

const fleetConfig = `receivers: {nop: {}}
exporters: {nop: {}}
service: {pipelines: {traces: {receivers: [nop], exporters: [nop]}}}
`

func (w *world) write(file, body string) {
	w.t.Helper()
	path := filepath.Join(w.cfg.Git, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) start() {
	w.t.Helper()
	running, err := app.Start(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- running.Run(ctx) }()
	w.app, w.client = running, &web.Client{Server: "http://" + running.Addr(app.HTTP), Token: w.token()}
	stopped := false
	w.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	w.t.Cleanup(func() {
		if err := w.stop(); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) token() string {
	if w.cfg.APITokenFile == "" {
		return ""
	}
	text, err := os.ReadFile(w.cfg.APITokenFile)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func (w *world) agents(count int, header http.Header) *sim.Fleet {
	w.t.Helper()
	f, err := sim.New(sim.FleetConfig{
		URL: "ws://" + w.app.Addr(app.OpAMP) + "/v1/opamp", Count: count, Seed: 1, ApplyTime: -1, Header: header,
		Reconnect: 20 * time.Millisecond, Record: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = f.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); <-done })
	return f
}

// until asks until there is a yes.
func (w *world) until(what string, ask func() bool) {
	w.t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.After(20 * time.Second); !ask(); {
		select {
		case <-ticker.C:
		case <-deadline:
			w.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (w *world) completed() bool {
	r, err := w.client.Rollout(w.t.Context(), "edge")
	return err == nil && r.Phase == rollout.Completed && r.Syncs["in_sync"] == r.Agents && r.Agents > 0
}

func (w *world) metrics() string {
	w.t.Helper()
	resp, err := http.Get("http://" + w.app.Addr(app.Admin) + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// What a server tells Prometheus is lint-free, and what can be counted is there
// from the start, at zero.
func TestMetrics(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.agents(3, nil)
	w.until("the rollout is completed", w.completed)
	w.until("agents are counted by version, with the next beat", func() bool {
		return strings.Contains(w.metrics(), "bellwether_agent_versions{")
	})
	text := w.metrics()
	problems, err := promlint.New(bytes.NewReader([]byte(text))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "bellwether_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for _, line := range []string{
		`bellwether_leader 1`,
		`bellwether_snapshot_valid 1`,
		`bellwether_rollout_phase{phase="Completed",rollout="edge"} 1`,
		`bellwether_rollout_phase{phase="RolledBack",rollout="edge"} 0`,
		`bellwether_rollout_hold{reason="Baking",rollout="edge"} 0`,
		`bellwether_rollout_hold_seconds_total{reason="FleetUnstable",rollout="edge"} 0`,
		`bellwether_agents{rollout="edge",state="healthy"} 3`,
		`bellwether_agents_sync{rollout="edge",state="in_sync"} 3`,
		`bellwether_rollout_agents{result="OK",rollout="edge",wave="canary"} 1`,
		`bellwether_agent_failures_total{reason="self_reverted",rollout="edge"} 0`,
		`bellwether_offers_total{kind="rollback",rollout="edge"} 0`,
		`bellwether_rollouts_finished_total{outcome="completed",rollout="edge"} 1`,
		`bellwether_rollouts_finished_total{outcome="superseded",rollout="edge"} 0`,
		`bellwether_opamp_connections{transport="websocket"} 3`,
		`bellwether_store_errors_total{operation="commit"} 0`,
		`bellwether_git_requests_total{result="unreachable",type="fetch"} 0`,
		`bellwether_auth_failures_total{surface="api"} 0`,
		`bellwether_http_requests_total{code="200",handler="get-agent",method="GET"} 0`,
		`bellwether_http_requests_total{code="202",handler="sync",method="POST"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	for name := range strings.FieldsSeq(documented) {
		if !strings.Contains(text, "# TYPE bellwether_"+name+" ") {
			t.Errorf("no metric bellwether_%s", name)
		}
	}
	for _, agent := range []string{sim.ID(1, 0).String(), "edge-0001"} {
		if strings.Contains(text, agent) {
			t.Errorf("a metric names the agent %s", agent)
		}
	}
}

// documented are the metrics that users may rely on, without their prefix.
const documented = `build_info leader
git_requests_total git_request_duration_seconds git_last_success_timestamp_seconds
git_head_commit_timestamp_seconds git_head_info snapshot_valid snapshot_problems
agents agents_sync agents_unmatched agents_conflicting agent_versions
rollout_info rollout_phase rollout_hold rollout_hold_seconds_total rollout_agents
rollout_wave rollout_waves rollout_disturbed rollout_budget rollout_start_timestamp_seconds
rollout_phase_start_timestamp_seconds rollout_last_progress_timestamp_seconds
rollouts_finished_total rollout_duration_seconds change_lead_time_seconds
agent_failures_total agent_apply_duration_seconds offers_total
opamp_connections opamp_connections_total opamp_connections_closed_total opamp_rejected_total
opamp_messages_received_total opamp_messages_sent_total opamp_message_errors_total
opamp_message_duration_seconds reconcile_duration_seconds reconcile_last_success_timestamp_seconds
store_operation_duration_seconds store_errors_total store_size_bytes
http_requests_total http_request_duration_seconds auth_failures_total`

// A restart while the repository is away still has a desired state: a joiner is
// served from the last good snapshot and the stored config.
func TestARestartWithoutTheRepository(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.agents(3, nil)
	w.until("the rollout is completed", w.completed)
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.cfg.Git, w.cfg.Git+"-gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.cfg.Git, 0o755); err != nil { // as an unmounted volume looks
		t.Fatal(err)
	}
	w.start()
	fresh := w.agents(5, nil)
	w.until("all five run the config", func() bool { return fresh.Counts().Applied == 5 })
	st, err := w.client.Status(t.Context())
	if err != nil || st.Source.Reason == "" || st.Revision == nil {
		t.Errorf("status %+v, %v: it should say what is wrong with the repository, and what is in force", st, err)
	}
}

func TestAnAgentWithoutTheTokenIsNotLetIn(t *testing.T) {
	w := newWorld(t)
	for file, token := range map[string]string{"agents.token": "for agents", "api.token": "for people"} {
		if err := os.WriteFile(filepath.Join(w.dir, file), []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.cfg.AgentTokenFile, w.cfg.APITokenFile = filepath.Join(w.dir, "agents.token"), filepath.Join(w.dir, "api.token")
	w.start()
	w.agents(1, nil)
	w.until("somebody is turned away", func() bool {
		return !strings.Contains(w.metrics(), `bellwether_opamp_rejected_total{reason="auth",transport="websocket"} 0`)
	})
	if st, err := w.client.Status(t.Context()); err != nil || st.Agents != 0 {
		t.Errorf("agents %d, %v", st.Agents, err)
	}
	w.agents(3, http.Header{"Authorization": {"Bearer for agents"}})
	w.until("the rollout is completed", w.completed)
	w.client.Token = "for agents"
	if _, err := w.client.Status(t.Context()); err == nil {
		t.Error("the agents' token opened the API")
	}
}

func TestReadyWhileTheRecordsCanBeWritten(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.until("it is ready", func() bool {
		resp, err := http.Get("http://" + w.app.Addr(app.Admin) + "/readyz")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}
