package web_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/web"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// herd is a fleet of one rollout and a few agents.
type herd struct {
	overview web.Overview
	agents   []*fleet.Agent
	asked    []reconciler.Intent
	refuse   string
	down     error
}

func (h *herd) Overview(context.Context) (web.Overview, error) { return h.overview, h.down }

func (h *herd) EachAgent(_ context.Context, look func(*fleet.Agent, reconciler.AgentStatus)) error {
	for _, a := range h.agents {
		st := reconciler.AgentStatus{State: reconciler.Offline}
		if a.Connected {
			st = reconciler.AgentStatus{State: reconciler.Healthy, Rollout: "edge", Wave: "canary", Result: rollout.OK}
		}
		look(a, st)
	}
	return h.down
}

func (h *herd) Command(_ context.Context, i reconciler.Intent) (rollout.Answer, error) {
	h.asked = append(h.asked, i)
	return rollout.Answer{Refused: h.refuse}, h.down
}

var target = fleet.Hash{0xab}

func newHerd() *herd {
	h := &herd{overview: web.Overview{
		Status: reconciler.Status{
			Revision: fleet.Revision{ID: "c1"}, Agents: 3, Connected: 2,
			Rollouts: []reconciler.RolloutStatus{{
				Name: "edge", Phase: rollout.Progressing, Hold: rollout.Baking, Target: target, Wave: 0,
				TargetRevision: fleet.Revision{ID: "c1", Subject: "batch sooner"},
				Waves: []reconciler.WaveStatus{{
					Name: "canary", Members: 2, Bake: time.Minute, Results: map[rollout.Result]int{rollout.OK: 2, rollout.Failed: 0},
				}},
			}},
		},
		Revisions: []reconciler.RevisionStatus{
			{Revision: fleet.Revision{ID: "c2"}, Problems: []string{"a.yaml:1:2: yaml: did not find it"}},
			{Revision: fleet.Revision{ID: "c1"}, Accepted: true},
		},
	}}
	for n := byte(1); n <= 3; n++ {
		h.agents = append(h.agents, &fleet.Agent{ID: fleet.AgentID{n}, Connected: n < 3, Labels: fleet.Labels{"n": string('0' + n)}})
	}
	return h
}

func serve(t *testing.T, h *herd, token string) (*web.Client, *httptest.Server) {
	t.Helper()
	handler, err := web.New(web.Config{Fleet: h, Sync: func() {}, Version: "test", Token: token, Registerer: prometheus.NewPedanticRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return &web.Client{Server: srv.URL}, srv
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestARolloutInTheAPI(t *testing.T) {
	client, srv := serve(t, newHerd(), "")
	r, err := client.Rollout(t.Context(), "edge")
	if err != nil {
		t.Fatal(err)
	}
	want := web.Rollout{
		Name: "edge", Phase: rollout.Progressing, Hold: rollout.Baking, Target: target, Revision: "c1", Subject: "batch sooner",
		Waves:  []web.Wave{{Name: "canary", Size: 2, Bake: "1m0s", Results: map[string]int{"OK": 2, "Failed": 0}}},
		States: map[string]int{}, Syncs: map[string]int{},
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("rollout (-want +got):\n%s", diff)
	}
	text := body(t, srv.URL+"/api/v1/rollouts/edge")
	for _, part := range []string{`"phase":"Progressing"`, `"hold":"Baking"`, `"target":"ab00`} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in %s", part, text)
		}
	}
	if strings.Contains(text, `"stable"`) || strings.Contains(text, `"started_at"`) {
		t.Errorf("what does not exist is shown: %s", text)
	}
}

func TestAnUnknownRolloutNamesTheOnesThereAre(t *testing.T) {
	client, _ := serve(t, newHerd(), "")
	_, err := client.Rollout(t.Context(), "egde")
	if !web.IsNotFound(err) || !strings.Contains(err.Error(), `no rollout "egde"; known: edge`) {
		t.Errorf("got %v", err)
	}
}

func TestAgentsComeInPagesAndByFilter(t *testing.T) {
	client, srv := serve(t, newHerd(), "")
	all, err := client.Agents(t.Context(), web.AgentFilter{})
	if err != nil || len(all) != 3 {
		t.Fatalf("%d agents, %v", len(all), err)
	}
	for filter, want := range map[web.AgentFilter]int{
		{State: "offline"}: 1, {Rollout: "edge"}: 2, {Result: "ok"}: 2, {Label: "n=2"}: 1, {Label: "n=9"}: 0,
	} {
		if got, err := client.Agents(t.Context(), filter); err != nil || len(got) != want {
			t.Errorf("%+v: %d agents, %v, want %d", filter, len(got), err, want)
		}
	}
	page := body(t, srv.URL+"/api/v1/agents?limit=2")
	if !strings.Contains(page, `"next":"`+fleet.AgentID{2}.String()+`"`) || !strings.Contains(page, `"total":3`) {
		t.Errorf("first page: %s", page)
	}
	page = body(t, srv.URL+"/api/v1/agents?limit=2&after="+fleet.AgentID{2}.String())
	if strings.Contains(page, `"next"`) || !strings.Contains(page, fleet.AgentID{3}.String()) {
		t.Errorf("last page: %s", page)
	}
	one, err := client.Agent(t.Context(), fleet.AgentID{2})
	if err != nil || one.Labels["n"] != "2" || one.Wave != "canary" {
		t.Errorf("agent %+v, %v", one, err)
	}
	if _, err := client.Agent(t.Context(), fleet.AgentID{9}); !web.IsNotFound(err) {
		t.Errorf("an unknown agent: %v", err)
	}
}

func TestACommandNamesTheTargetAndARefusalIsSaid(t *testing.T) {
	h := newHerd()
	client, _ := serve(t, h, "")
	for i, verb := range web.Verbs() {
		if _, err := client.Command(t.Context(), "edge", verb, target, "me", "because"); err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		want := reconciler.Intent{Rollout: "edge", Command: rollout.Command{Verb: rollout.Verb(i), Target: target, By: "me", Why: "because"}}
		if diff := cmp.Diff(want, h.asked[i]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", verb, diff)
		}
	}
	h.refuse = "the target is another one by now"
	_, err := client.Command(t.Context(), "edge", "pause", fleet.Hash{1}, "me", "")
	if answer, ok := errors.AsType[*web.Error](err); !ok || answer.Status != http.StatusConflict || answer.Detail != h.refuse {
		t.Errorf("a refusal came as %v", err)
	}
	if _, err := client.Command(t.Context(), "edge", "explode", target, "", ""); err == nil {
		t.Error("an unknown verb was taken")
	}
}

func TestNothingIsShownWithoutTheToken(t *testing.T) {
	client, srv := serve(t, newHerd(), "s3cret")
	_, err := client.Rollouts(t.Context())
	if answer, ok := errors.AsType[*web.Error](err); !ok || answer.Status != http.StatusUnauthorized {
		t.Errorf("without a token: %v", err)
	}
	client.Token = "wrong"
	if _, err := client.Rollouts(t.Context()); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("with a wrong token: %v", err)
	}
	client.Token = "s3cret"
	if _, err := client.Rollouts(t.Context()); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if text := body(t, srv.URL+"/openapi.yaml"); !strings.Contains(text, "/api/v1/rollouts/{name}") {
		t.Errorf("openapi.yaml: %.200s", text)
	}
}

// A page in somebody's browser cannot act through an API that listens on loopback.
func TestAnotherOriginCannotAct(t *testing.T) {
	h := newHerd()
	_, srv := serve(t, h, "")
	req, err := http.NewRequest(http.MethodPost, srv.URL+"/api/v1/rollouts/edge/pause", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusForbidden || len(h.asked) != 0 {
		t.Errorf("answered %d, asked %v", resp.StatusCode, h.asked)
	}
}

func TestAStoppingServerSays503(t *testing.T) {
	h := newHerd()
	h.down = context.Canceled
	client, _ := serve(t, h, "")
	_, err := client.Revisions(t.Context())
	if answer, ok := errors.AsType[*web.Error](err); !ok || answer.Status != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestRequestsAreCountedByOperation(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	handler, err := web.New(web.Config{Fleet: newHerd(), Sync: func() {}, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/agents/" + fleet.AgentID{1}.String(), "/api/v1/agents/" + fleet.AgentID{9}.String()} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	want := `# HELP bellwether_http_requests_total Requests to the API.
# TYPE bellwether_http_requests_total counter
bellwether_http_requests_total{code="200",handler="command-rollout",method="POST"} 0
bellwether_http_requests_total{code="200",handler="get-agent",method="GET"} 1
bellwether_http_requests_total{code="404",handler="get-agent",method="GET"} 1
bellwether_http_requests_total{code="200",handler="get-rollout",method="GET"} 0
bellwether_http_requests_total{code="200",handler="get-status",method="GET"} 0
bellwether_http_requests_total{code="200",handler="list-agents",method="GET"} 0
bellwether_http_requests_total{code="200",handler="list-revisions",method="GET"} 0
bellwether_http_requests_total{code="200",handler="list-rollouts",method="GET"} 0
bellwether_http_requests_total{code="202",handler="sync",method="POST"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "bellwether_http_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestAdminSaysWhetherItIsReady(t *testing.T) {
	problem := errors.New("records cannot be written: disk full")
	admin := web.Admin(prometheus.NewRegistry(), func() error { return problem })
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		admin.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, _ := ask("/healthz"); code != 200 {
		t.Errorf("healthz %d", code)
	}
	if code, text := ask("/readyz"); code != 503 || !strings.Contains(text, "disk full") {
		t.Errorf("readyz %d %s", code, text)
	}
	problem = nil
	if code, _ := ask("/readyz"); code != 200 {
		t.Errorf("readyz %d", code)
	}
}
