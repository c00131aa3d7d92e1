package controller_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/controller"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// complete brings a fleet of one to the config of commit c1.
func (s *shell) complete() fleet.Offer {
	s.t.Helper()
	s.hello(1)
	s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
	time.Sleep(5 * time.Second)
	synctest.Wait()
	if len(s.given()) != 1 {
		s.t.Fatalf("offers %v, want one", s.given())
	}
	home := s.given()[0]
	s.says(home, fleet.Applied)
	time.Sleep(30 * time.Second)
	synctest.Wait()
	if st, _ := s.view(); st.Phase != rollout.Completed {
		s.t.Fatalf("phase %v (%s)", st.Phase, st.Reason)
	}
	return home
}

// An agent that drifts without losing its connection is offered the same delivery
// a second time.
func TestAnAgentThatDriftsIsOfferedTheSameAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		home := s.complete()
		s.says(fleet.Offer{Agent: home.Agent, Delivery: fleet.Delivery{Config: fleet.Hash{7}}}, fleet.Applied)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := s.given(); len(got) != 2 || got[1].Delivery != home.Delivery {
			t.Errorf("offers %v, want %v twice", got, home)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A commit that was rejected no longer counts once the branch is back at the one
// before.
func TestGoingBackToTheLastGoodRevisionEndsARejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		for _, snapshot := range []fleet.Snapshot{
			commit("c1", edgeManifest, edgeConfig), commit("c2", edgeManifest, "receivers: [\n"), commit("c1", edgeManifest, edgeConfig),
		} {
			s.c.Snapshot(snapshot)
			time.Sleep(time.Second)
		}
		err := s.c.Query(t.Context(), func(v controller.View) {
			if newest := v.Revisions()[0]; newest.Revision.ID != "c1" || !newest.Accepted {
				t.Errorf("the newest revision is %+v", newest)
			}
		})
		if err := errors.Join(err, stop()); err != nil {
			t.Error(err)
		}
	})
}

// Whoever was told that there is no answer asks again: what they asked first is
// not done behind their back.
func TestACommandWhoseAskerHasGoneIsNotCarriedOutLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		s.complete()
		s.setFail(errors.New("disk full"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		pause := reconciler.Intent{Rollout: "edge", Command: rollout.Command{Verb: rollout.VerbPause, By: "me"}}
		if _, err := s.c.Command(ctx, pause); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("answered: %v", err)
		}
		s.setFail(nil)
		time.Sleep(5 * time.Second)
		if st, _ := s.view(); st.UserPaused {
			t.Error("it was paused after its asker had gone")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A query never outlives the controller, and its look never the query.
func TestQueriesEndWithTheController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		asked := make(chan error, 1)
		go func() { asked <- s.c.Query(t.Context(), func(controller.View) {}) }()
		gone, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		looked := false
		if err := s.c.Query(gone, func(controller.View) { looked = true }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a controller that does not run answered: %v", err)
		}
		stopped, stop := context.WithCancel(t.Context())
		stop()
		for range 2 { // whether or not it looks before it ends
			if err := s.c.Run(stopped); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		select {
		case _ = <-asked:
		default:
			t.Fatal("a query still waits for a controller that has ended")
		}
		if looked {
			t.Error("a query was answered after it had been given up")
		}
	})
}

// The time never goes behind what the records say, and goes on from there.
func TestTheClockNeverGoesBehindTheRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ahead := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Millisecond)
		s := newShell(t, reconciler.State{Watched: ahead})
		stop := s.run()
		s.complete() // timers run all the same
		if err := stop(); err != nil {
			t.Error(err)
		}
		for i, state := range s.commits {
			if state.Watched.Before(ahead) {
				t.Fatalf("commit %d is of %v, the records were of %v", i, state.Watched, ahead)
			}
		}
	})
}

// A fleet that has nothing to say was still watched: its bake ends in time.
func TestSilenceIsNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", strings.Replace(edgeManifest, "size: 1}", "size: 1, bake: 10m}", 1), edgeConfig))
		s.answer(0, 15, fleet.Applied)
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if st, _ := s.view(); st.Phase != rollout.Completed {
			t.Errorf("phase %v (%s)", st.Phase, st.Reason)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
