package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"pgregory.net/rapid"
)

// header is what is comparable of a State.
type header struct {
	Name, RetryToken, Reason, Failure      string
	Target, Stable, Blocked                fleet.Hash
	TargetRevision, StableRevision         fleet.Revision
	Attempt, StableAttempt                 uint32
	Phase                                  Phase
	Hold                                   Hold
	UserPaused, SkipBake, Orphaned         bool
	Wave, Budget, High                     int
	StartedAt, PhaseAt, ProgressAt, BakeAt time.Time
	GraceUntil, HeldAt, FrozenAt           time.Time
}

func headerOf(s State) header {
	return header{
		s.Name, s.RetryToken, s.Reason, s.Failure, s.Target, s.Stable, s.Blocked, s.TargetRevision, s.StableRevision,
		s.Attempt, s.StableAttempt, s.Phase, s.Hold, s.UserPaused, s.SkipBake, s.Orphaned, s.Wave, s.Budget, s.High,
		s.StartedAt, s.PhaseAt, s.ProgressAt, s.BakeAt, s.GraceUntil, s.HeldAt, s.FrozenAt,
	}
}

// TestI12LiveTime counts from the outside the time in which we watched and the
// fleet was stable.
func TestI12LiveTime(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		flight := map[fleet.AgentID]time.Duration{}
		var last time.Time
		return func(l look) {
			live := l.in.Now.Sub(last) - l.in.Gap
			if last.IsZero() || !l.prev.FrozenAt.IsZero() {
				live = 0
			}
			last = l.in.Now
			for _, a := range l.agents {
				was, _ := l.prev.Ledger.Get(a.ID)
				e, _ := l.next.Ledger.Get(a.ID)
				if was.Result == InFlight {
					flight[a.ID] += live
				}
				late := e.Failure == Timeout || e.Failure == Lost
				if was.Result == InFlight && e.Result == Failed && late && !l.restarted() && flight[a.ID] < l.in.Spec.HealthyDeadline {
					fail("agent %v failed (%v) after %v of live time", a.ID, e.Failure, flight[a.ID])
				}
				if e.Result != InFlight || e.Assigned != was.Assigned || was.Result != InFlight || l.restarted() {
					flight[a.ID] = 0
				}
			}
		}
	})
}

func TestI13Evidence(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			passed := l.next.Wave
			from := l.prev.Wave
			if l.restarted() {
				from = 0
			}
			if l.next.Phase == Completed && l.next.Stable != l.prev.Stable {
				passed = len(l.next.Waves)
			}
			n := results(l.next)
			ok, members := 0, 0
			for i := range passed {
				ok += n[i][OK]
				members += sum(n[i])
				if i >= from && members > 0 && ok == 0 {
					fail("wave %d was passed without evidence: %v", i, n)
				}
			}
		}
	})
}

func TestI14CompletedRests(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			if l.prev.Phase == Completed && l.next.Phase != Completed && l.in.Target == l.prev.Target {
				fail("Completed was left for %v without a new target", l.next.Phase)
			}
		}
	})
}

func TestI16OnlyTargetOrStable(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			for id, d := range l.offers {
				if d != l.next.TargetDelivery() && d != l.next.StableDelivery() {
					fail("agent %v is offered %s", id, short(d))
				}
			}
			for _, a := range l.agents {
				e, _ := l.next.Ledger.Get(a.ID)
				d := e.Assigned
				if reachable(&a.Agent) && !d.IsZero() && d != l.next.TargetDelivery() && d != l.next.StableDelivery() && !a.Runs(d) {
					fail("agent %v is assigned %s, which it does not run", a.ID, short(d))
				}
			}
		}
	})
}

func TestI17Sleepers(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			for _, a := range l.agents {
				e, _ := l.next.Ledger.Get(a.ID)
				d := e.Assigned
				settled := l.in.Now.Sub(a.Since) >= l.in.Spec.MinHealthyTime // no blip
				if !a.Connected && !d.IsZero() && d != l.next.TargetDelivery() && d != l.next.StableDelivery() && (settled || a.Delivery != d) {
					fail("agent %v sleeps and would wake up to %s", a.ID, short(d))
				}
			}
		}
	})
}

func TestI18Refusal(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			for _, a := range l.agents {
				if d, ok := l.offers[a.ID]; ok && a.failed[d] {
					fail("agent %v is offered %s, which it refused", a.ID, short(d))
				}
			}
		}
	})
}

func TestI19WakeAtIsNeverLate(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			in := l.in
			in.Commands, in.Gap = nil, 0
			for _, part := range []time.Duration{1, 2, 3, 4} {
				until := l.in.Now.Add(time.Hour)
				if !l.out.WakeAt.IsZero() {
					until = l.out.WakeAt.Add(-time.Millisecond)
				}
				in.Now = l.in.Now.Add(until.Sub(l.in.Now) * part / 4)
				again := Step(l.next, in)
				if len(again.Events) > 0 || !same(again.State, l.next) {
					changed, _ := again.State.Ledger.Changes(l.next.Ledger)
					fail("something happened at %v, before WakeAt %v: %+v\n%+v\n%+v\n%+v", in.Now, l.out.WakeAt, again.Events, changed, headerOf(l.next), headerOf(again.State))
				}
			}
		}
	})
}

func TestI21StateSurvivesEncoding(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			if !same(recode(l.next), l.next) {
				fail("the state changes when it is encoded")
			}
		}
	})
}

// TestArgumentsAreNotChanged is the promise that lets states share their ledgers.
func TestArgumentsAreNotChanged(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			before := recode(l.prev)
			Step(l.prev, l.in)
			if !same(before, l.prev) {
				fail("Step changed its argument")
			}
		}
	})
}

// TestL2CalmWeather is the law of liveness: when the target is good, everybody is
// there and nobody interferes, every rollout completes and everybody runs it,
// whatever happened before.
func TestL2CalmWeather(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		w := newTestWorld(func(n int) int { return random.IntN(max(1, n)) })
		for range rapid.IntRange(0, 80).Draw(t, "storm") {
			commands := w.happen()
			w.react()
			w.step(commands)
		}
		w.agents = slices.DeleteFunc(w.agents, func(a *simAgent) bool { return a.temper == mute })
		for _, a := range w.agents {
			a.temper, a.Healthy = docile, true
			if !a.Connected {
				a.Connected, a.Since, a.session = true, w.now, fleet.Delivery{}
			}
		}
		w.target, w.spec.Paused = fleet.Hash{99}, false
		w.step([]Command{{Verb: VerbResume}})
		var l look
		for range 400 {
			w.now = w.now.Add(5 * time.Second)
			w.react()
			l = w.step(nil)
		}
		if len(w.agents) == 0 {
			if w.state.Phase != Progressing || w.state.Hold != NoReachableAgents {
				t.Fatalf("completed by nobody:\n%v", l)
			}
			return
		}
		if w.state.Phase != Completed {
			t.Fatalf("after half an hour of calm weather:\n%v", l)
		}
		for _, a := range w.agents {
			if a.Delivery.Config != w.target {
				t.Fatalf("agent %v does not run it:\n%v", a.ID, l)
			}
		}
	})
}

// TestNotVacuous checks that the random worlds show everything there is.
func TestNotVacuous(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 3))
		run(func(n int) int { return random.IntN(max(1, n)) }, 150, func(l look) {
			seen["phase "+l.next.Phase.String()]++
			seen["hold "+l.next.Hold.String()]++
			for e := range l.next.Ledger.All() {
				seen["result "+e.Result.String()]++
				seen["failure "+e.Failure.String()]++
			}
			for _, e := range l.out.Events {
				seen["event "+e.Kind.String()]++
				if e.Kind == EventOffered {
					seen["offer "+e.Offer.String()]++
				}
			}
		})
	}
	var want []string
	for _, p := range Phases() {
		want = append(want, "phase "+p.String())
	}
	for _, h := range []Hold{UserPaused, FleetUnstable, ControllerRestart, Baking, NoReachableAgents, BudgetExhausted, NoEvidence} {
		want = append(want, "hold "+h.String())
	}
	for _, r := range Results() {
		want = append(want, "result "+r.String())
	}
	for _, f := range Failures() {
		want = append(want, "failure "+f.String())
	}
	for _, k := range OfferKinds() {
		want = append(want, "offer "+k.String())
	}
	for k := EventStarted; k <= EventIntent; k++ {
		want = append(want, fmt.Sprint("event ", k.String()))
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("never seen: %s", w)
		}
	}
}

// TestL1NoSilentStall is the law of liveness that holds at every step: whatever
// does not wait for the world has a moment at which something will change, and
// whatever waits says for what.
func TestL1NoSilentStall(t *testing.T) {
	law(t, func(fail func(string, ...any)) func(look) {
		return func(l look) {
			s := l.next
			if s.Reason == "" {
				fail("no reason")
			}
			switch {
			case s.Phase == Progressing && s.HeldAt.IsZero():
				if l.out.WakeAt.IsZero() {
					fail("nothing holds, and nobody will look again")
				}
				if l.in.Now.Sub(s.ProgressAt) >= l.in.Spec.ProgressDeadline {
					fail("beyond the progress deadline of %v", s.ProgressAt)
				}
			case s.Phase == RollingBack && s.Hold == NoHold:
				if l.out.WakeAt.IsZero() {
					fail("on the way home, and nobody will look again")
				}
			case s.Phase == Progressing && s.Hold == NoHold:
				fail("held since %v, and no word why", s.HeldAt)
			}
		}
	})
}
