//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Ten pairs take a commit in three waves: the canaries, half of all, the rest.
// Nobody is offered anything before the waves before have settled, soaked and
// baked, and never more are disturbed than the budget allows.
func TestCanaryThenWaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10, 2)
	p := canaryFirst()
	p.waves += "    - {name: half, size: 50%}\n"
	p.maxUnavailable = 3
	v1 := w.settled("v1", p.manifests())

	w.repo.commit("roll out v2", good("v2"))
	var seen []int // waves, in the order in which they were current
	var last rolloutView
	w.await("v2 Completed", 120*time.Second, w.rolloutIs(func(r rolloutView) bool {
		if r.Disturbed > p.maxUnavailable || r.Budget > p.maxUnavailable {
			t.Errorf("%d disturbed of a budget of %d: want at most %d", r.Disturbed, r.Budget, p.maxUnavailable)
		}
		if r.Target == v1 {
			return false
		}
		if len(seen) == 0 || seen[len(seen)-1] != r.Wave {
			seen = append(seen, r.Wave)
		}
		last = r
		return r.Phase == "Completed"
	}))
	v2 := last.Target
	w.runs("v2", v2)
	w.offered(1, v1, w.pairs)
	w.offered(1, v2, w.pairs)
	if !slices.IsSorted(seen) {
		t.Errorf("current waves were %v: they never go back", seen)
	}
	checkWaves(t, last, []waveView{
		{Name: "canary", Size: 2, Results: map[string]int{"OK": 2}},
		{Name: "half", Size: 5, Results: map[string]int{"OK": 5}},
		{Name: "rest", Size: 3, Results: map[string]int{"OK": 3}},
	})

	// Three waves, each at least the time to apply, soak and bake apart.
	times := w.offerTimes(v2)
	apart := applyTimeout + p.minHealthyTime
	for i, next := range []int{2, 7} {
		if gap := times[next].Sub(times[next-1]); gap < apart {
			t.Errorf("wave %d began %v after the last offer of the wave before: want at least %v", i+2, gap, apart)
		}
	}
	w.canariesWereFirst(v2, apart+time.Second) // their bake

	commit := w.repo.commit("only words", files{"README.md": "The fleet.\n"})
	if r := w.awaitRevision(commit); r.State != "accepted" {
		t.Errorf("a commit of a README is %s: %v", r.State, r.Problems)
	}
	w.quiet("no agent's config changed")
	w.metricsAgree()
}

func checkWaves(t *testing.T, r rolloutView, want []waveView) {
	t.Helper()
	if len(r.Waves) != len(want) {
		t.Errorf("waves are %v, want %v", r.Waves, want)
		return
	}
	for i, w := range want {
		got := r.Waves[i]
		if got.Name != w.Name || got.Size != w.Size || got.Results["OK"] != w.Results["OK"] {
			t.Errorf("wave %d is %v, want %v", i, got, w)
		}
	}
}

// offerTimes returns when the config was received, for all offers, sorted.
func (w *world) offerTimes(hash string) []time.Time {
	var times []time.Time
	for _, s := range w.pairs {
		for _, o := range s.offers() {
			if o.Hash == hash {
				times = append(times, o.at())
			}
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	return times
}

// canariesWereFirst checks that every canary received the config that long before
// anybody else did.
func (w *world) canariesWereFirst(hash string, apart time.Duration) {
	w.t.Helper()
	var last, first time.Time
	for _, s := range w.pairs {
		for _, o := range s.offers() {
			switch {
			case o.Hash != hash:
			case s.canary && o.at().After(last):
				last = o.at()
			case !s.canary && (first.IsZero() || o.at().Before(first)):
				first = o.at()
			}
		}
	}
	if last.IsZero() || first.IsZero() || first.Sub(last) < apart {
		w.t.Errorf("canaries received %.8s until %v, others from %v: want %v between", hash, last, first, apart)
	}
}

// metricsAgree checks that the admin surface answers and says what the API says.
func (w *world) metricsAgree() {
	w.t.Helper()
	for _, path := range []string{"/healthz", "/readyz"} {
		if _, err := get(w.server.admin, path); err != nil {
			w.t.Error(err)
		}
	}
	text, err := get(w.server.admin, "/metrics")
	if err != nil {
		w.t.Error(err)
	}
	for _, want := range []string{
		`bellwether_rollout_phase{phase="Completed",rollout="edge"} 1`,
		`bellwether_agents{rollout="edge",state="healthy"} 10`,
		`bellwether_offers_total{kind="wave",rollout="edge"} 20`,
		`bellwether_rollouts_finished_total{outcome="completed",rollout="edge"} 2`,
		`bellwether_opamp_connections{transport="websocket"} 10`,
	} {
		if !strings.Contains(string(text), want+"\n") {
			name, _, _ := strings.Cut(want, "{")
			w.t.Errorf("no %s in the metrics; there is\n%s", want, grep(string(text), name))
		}
	}
}

func grep(text, part string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			found.WriteString(line)
		}
	}
	return found.String()
}
