package fleet_test

import (
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var (
	t0   = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	good = fleet.Delivery{Config: fleet.Hash{1}}
	bad  = fleet.Delivery{Config: fleet.Hash{2}}
)

const everything = fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsRemoteConfig | fleet.ReportsHealth

// life folds reports, one a second, and returns the agent after each.
func life(reports ...fleet.Report) []fleet.Agent {
	var a fleet.Agent
	var lives []fleet.Agent
	for i, r := range reports {
		r.Agent, r.At, r.Capabilities = fleet.AgentID{1}, t0.Add(time.Duration(i)*time.Second), everything
		if r.Session == 0 {
			r.Session = 1
		}
		a = fleet.Fold(a, r)
		lives = append(lives, a)
	}
	return lives
}

func remote(d fleet.Delivery, s fleet.ApplyStatus, text string) fleet.Report {
	return fleet.Report{Remote: &fleet.RemoteStatus{Delivery: d, Status: s, Error: text}}
}

func health(ok bool, started int) fleet.Report {
	return fleet.Report{Health: &fleet.Health{Healthy: ok, Started: t0.Add(time.Duration(started) * time.Minute)}}
}

func TestGoodNeedsAppliedAndHealthyOfThisDelivery(t *testing.T) {
	lives := life(
		health(true, 0),                   // healthy, but never said what it runs
		remote(good, fleet.Applying, ""),  // trying
		health(false, 0), health(true, 1), // restarts meanwhile: not judged
		remote(good, fleet.Applied, ""), // there
		health(false, 1),                // suffers
		health(true, 1),                 // well again
		fleet.Report{Gone: true},        // offline
		fleet.Report{Session: 2},        // back, but has not said what it runs
		fleet.Report{Session: 2, Remote: &fleet.RemoteStatus{Delivery: good, Status: fleet.Applied}},
	)
	var got []bool
	for _, a := range lives {
		got = append(got, a.Good(good))
	}
	want := []bool{false, false, false, false, true, false, true, false, false, true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("good, report by report (-want +got):\n%s", diff)
	}
	if last := lives[len(lives)-1]; last.Good(bad) {
		t.Error("good on a delivery it does not run")
	}
}

func TestAFailureIsRememberedAfterASelfRollback(t *testing.T) {
	lives := life(remote(bad, fleet.Failed, "no such exporter"), remote(good, fleet.Applied, ""))
	if got := lives[1].LastFailed; got != bad {
		t.Errorf("last failed is %v, want %v", got, bad)
	}
}

// The Supervisor says FAILED when its own time-out ends first, then the Collector
// comes up, and nobody ever says APPLIED.
func TestATimeoutFollowedByANewHealthyProcessCountsAsApplied(t *testing.T) {
	lives := life(
		remote(good, fleet.Applied, ""), health(true, 0),
		remote(bad, fleet.Applying, ""), remote(bad, fleet.Failed, "Config apply timeout exceeded"), health(true, 5),
	)
	last := lives[len(lives)-1]
	if last.Status != fleet.Applied || !last.Good(bad) || !last.LastFailed.IsZero() {
		t.Errorf("after the new process: status %v, good %v, last failed %v", last.Status, last.Good(bad), last.LastFailed)
	}
	if before := lives[3]; !before.Settling() || before.Good(bad) || !before.LastFailed.IsZero() {
		t.Errorf("before it: status %v, good %v, last failed %v", before.Status, before.Good(bad), before.LastFailed)
	}
}

// A server that restarts while an agent applies hears of the time-out and of the
// health in one report, and never saw when the process before had started.
func TestATimeoutThatWasMissedCountsAsAppliedOnceHealthy(t *testing.T) {
	first := remote(bad, fleet.Failed, "Config apply timeout exceeded")
	first.Health = health(true, 5).Health
	if a := life(first)[0]; !a.Good(bad) || !a.LastFailed.IsZero() {
		t.Errorf("healthy after the time-out: status %v, last failed %v", a.Status, a.LastFailed)
	}
	first.Health = health(false, 5).Health
	if a := life(first)[0]; !a.Settling() || !a.LastFailed.IsZero() {
		t.Errorf("unhealthy after the time-out: status %v, last failed %v", a.Status, a.LastFailed)
	}
	first = remote(bad, fleet.Failed, "Agent exited unexpectedly with exit code 1 while applying configuration")
	first.Health = health(true, 5).Health
	if a := life(first)[0]; a.Status != fleet.Failed {
		t.Errorf("another failure: status %v, want failed", a.Status)
	}
}

func TestATimeoutWithTheOldProcessIsNotGood(t *testing.T) {
	lives := life(
		remote(good, fleet.Applied, ""), health(true, 0),
		remote(bad, fleet.Applying, ""), remote(bad, fleet.Failed, "Config apply timeout exceeded"), health(true, 0),
	)
	if last := lives[len(lives)-1]; !last.Settling() || last.Good(bad) {
		t.Errorf("status %v, good %v; want it to be judged by our deadline", last.Status, last.Good(bad))
	}
}

func TestTheEndOfAnOldSessionIsNotTheEndOfTheNewOne(t *testing.T) {
	lives := life(
		fleet.Report{Session: 1}, fleet.Report{Session: 2},
		fleet.Report{Session: 1, Gone: true},
		fleet.Report{Session: 1, Remote: &fleet.RemoteStatus{Delivery: bad, Status: fleet.Failed}},
	)
	last := lives[len(lives)-1]
	if !last.Connected || last.Status != fleet.Unset || last.Session != 2 {
		t.Errorf("connected %v, status %v, session %d", last.Connected, last.Status, last.Session)
	}
}

func TestUnchangedPartsAreKept(t *testing.T) {
	labels := fleet.Labels{"ring": "canary"}
	lives := life(fleet.Report{Labels: labels}, health(true, 0), fleet.Report{})
	last := lives[2]
	if !last.Labels.Equal(labels) || !last.Healthy || last.LastSeen != t0.Add(2*time.Second) || last.Since != t0 {
		t.Errorf("labels %v, healthy %v, seen %v, since %v", last.Labels, last.Healthy, last.LastSeen, last.Since)
	}
}

// Folding never changes what it was given.
func TestFoldLeavesItsArgumentsAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := fleet.Agent{Session: uint64(rapid.IntRange(0, 3).Draw(t, "session")), Labels: fleet.Labels{"a": "1"}, Connected: rapid.Bool().Draw(t, "connected")}
		r := fleet.Report{Session: uint64(rapid.IntRange(0, 3).Draw(t, "its session")), Gone: rapid.Bool().Draw(t, "gone"), Labels: fleet.Labels{"b": "2"}}
		before := fleet.Agent{Session: a.Session, Labels: fleet.Labels{"a": "1"}, Connected: a.Connected}
		fleet.Fold(a, r)
		if diff := cmp.Diff(before, a); diff != "" {
			t.Fatalf("the agent changed (-was +is):\n%s", diff)
		}
		if !r.Labels.Equal(fleet.Labels{"b": "2"}) {
			t.Fatalf("the report changed: %v", r.Labels)
		}
	})
}
