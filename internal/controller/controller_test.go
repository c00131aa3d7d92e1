package controller_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/controller"
	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// shell is everything around a controller: a store that can fail, agents that
// take what they are given.
type shell struct {
	t        *testing.T
	c        *controller.Controller
	observed chan reconciler.State

	mu      sync.Mutex // guards what follows
	fail    error      // of the next commits
	commits []reconciler.State
	beats   int
	configs map[fleet.Hash]fleet.Config
	offers  []fleet.Offer
	durable []bool // for each offer: was it in the last commit?
	journal []controller.Entry
	saved   []string
	mute    bool // the watch tells nothing
}

func (s *shell) Commit(_ context.Context, next reconciler.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.commits = append(s.commits, next)
	if s.mute {
		return nil
	}
	select { // only the newest matters, as from the store
	case <-s.observed:
	default:
	}
	s.observed <- next
	return nil
}

func (s *shell) Beat(context.Context, time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beats++
	return s.fail
}

func (s *shell) PutConfig(_ context.Context, c fleet.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.configs[c.Hash] = c
	return nil
}

func (s *shell) Config(_ context.Context, h fleet.Hash) (fleet.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.configs[h]
	if !ok {
		return c, fmt.Errorf("no config %s", h.Short())
	}
	return c, nil
}

func (s *shell) PruneConfigs(_ context.Context, keep map[fleet.Hash]bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for h := range s.configs {
		if !keep[h] {
			delete(s.configs, h)
		}
	}
	return nil
}

func (s *shell) Offer(agent fleet.AgentID, d fleet.Delivery, c fleet.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	durable := false
	if n := len(s.commits); n > 0 {
		assigned, ok := reconciler.Assigned(s.commits[n-1], agent)
		durable = ok && assigned == d && c.Hash == d.Config
	}
	s.offers = append(s.offers, fleet.Offer{Agent: agent, Delivery: d})
	s.durable = append(s.durable, durable)
	return nil
}

func newShell(t *testing.T, initial reconciler.State) *shell {
	s := &shell{t: t, observed: make(chan reconciler.State, 1), configs: map[fleet.Hash]fleet.Config{}}
	c, err := controller.New(controller.Config{
		Records: s, Configs: s, Offerer: s, Initial: initial, Observed: s.observed,
		Journal: func(e []controller.Entry) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.journal = append(s.journal, e...)
		},
		Accepted: func(snap fleet.Snapshot) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.saved = append(s.saved, snap.Revision.ID)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.c = c
	return s
}

// run runs the controller for the length of a bubble and returns what ends it.
func (s *shell) run() (stop func() error) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.c.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

func (s *shell) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *shell) given() []fleet.Offer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]fleet.Offer(nil), s.offers...)
}

// view looks at the rollout "edge".
func (s *shell) view() (st reconciler.RolloutStatus, problem string) {
	s.t.Helper()
	err := s.c.Query(s.t.Context(), func(v controller.View) {
		for _, r := range v.Status().Rollouts {
			st = r
		}
		problem = v.Problem()
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return st, problem
}

const edgeManifest = `apiVersion: bellwether.dev/v1alpha1
kind: Rollout
metadata: {name: edge}
spec:
  selector: {matchLabels: {app: edge}}
  config: [edge.yaml]
  waves: [{name: canary, size: 1}]
  minHealthyTime: 5s
`

const edgeConfig = `receivers: {nop: {}}
exporters: {nop: {}}
service: {pipelines: {traces: {receivers: [nop], exporters: [nop]}}}
`

func commit(id, manifest, config string) fleet.Snapshot {
	return fleet.Snapshot{Revision: fleet.Revision{ID: id}, Root: ".", Files: []fleet.Source{
		{Path: "edge.yaml", Body: []byte(config)}, {Path: "rollout.yaml", Body: []byte(manifest)},
	}}
}

// hello tells of agent n, connected for a minute, healthy and without a config of
// ours.
func (s *shell) hello(n byte) {
	s.c.Report(fleet.Report{
		Agent: fleet.AgentID{n}, Session: 1, At: time.Now().Add(-time.Minute), Labels: fleet.Labels{"app": "edge"},
		Capabilities: fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsRemoteConfig | fleet.ReportsHealth,
		Remote:       &fleet.RemoteStatus{}, Health: &fleet.Health{Healthy: true},
	})
}

// says lets an agent report on a delivery.
func (s *shell) says(o fleet.Offer, status fleet.ApplyStatus) {
	s.c.Report(fleet.Report{
		Agent: o.Agent, Session: 1, At: time.Now(),
		Capabilities: fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsRemoteConfig | fleet.ReportsHealth,
		Remote:       &fleet.RemoteStatus{Delivery: o.Delivery, Status: status},
	})
}

func TestARolloutFromTheFirstCommitToCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		for n := byte(1); n <= 3; n++ {
			s.hello(n)
		}
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		answered := 0
		for range 30 {
			time.Sleep(time.Second)
			synctest.Wait()
			for _, o := range s.given()[answered:] {
				s.says(o, fleet.Applied)
				answered++
			}
		}
		st, _ := s.view()
		if st.Phase != rollout.Completed || answered != 3 {
			t.Errorf("phase %v (%s) after %d offers, want Completed after 3", st.Phase, st.Reason, answered)
		}
		for i, durable := range s.durable {
			if !durable {
				t.Errorf("offer %d left before it was durable", i)
			}
		}
		if len(s.saved) != 1 || s.beats == 0 || len(s.journal) == 0 {
			t.Errorf("saved %v, %d beats, %d journal lines", s.saved, s.beats, len(s.journal))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestNothingIsOfferedUntilThePlanIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		s.setFail(errors.New("disk full"))
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := s.given(); len(got) != 0 {
			t.Errorf("offered %v while nothing could be made durable", got)
		}
		if _, problem := s.view(); problem != "disk full" {
			t.Errorf("the problem shown is %q", problem)
		}
		s.setFail(nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := s.given(); len(got) != 1 {
			t.Errorf("offered %v once the disk has room, want one", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// The plan is not what is acted on: the records are, as the watch tells them.
func TestOffersComeFromTheWatchedRecordsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		s.mute = true
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if got := s.given(); len(got) != 0 {
			t.Errorf("offered %v before the watch told of the commit", got)
		}
		s.observed <- s.commits[len(s.commits)-1]
		synctest.Wait()
		if got := s.given(); len(got) != 1 {
			t.Errorf("offered %v after the watch told, want one", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A hold shifts the time of every decision. An agent that has not answered yet must
// not be sent the same again for that.
func TestAShiftedDecisionIsNoNewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		s.mute = true
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		time.Sleep(5 * time.Second)
		synctest.Wait()
		state := s.commits[len(s.commits)-1]
		s.observed <- state
		synctest.Wait()
		shifted := reconciler.State{Rollouts: []rollout.State{state.Rollouts[0]}, Watched: state.Watched}
		entry, _ := state.Rollouts[0].Ledger.Get(fleet.AgentID{1})
		entry.OfferedAt = entry.OfferedAt.Add(time.Second)
		shifted.Rollouts[0].Ledger = rollout.LedgerOf([]rollout.Entry{entry})
		s.observed <- shifted
		synctest.Wait()
		if got := s.given(); len(got) != 1 {
			t.Errorf("offered %v, want one", got)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestADeposedControllerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		s.setFail(controller.ErrDeposed)
		done := make(chan error, 1)
		go func() { done <- s.c.Run(t.Context()) }()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		if err := <-done; !errors.Is(err, controller.ErrDeposed) {
			t.Errorf("ended with %v", err)
		}
		if got := s.given(); len(got) != 0 {
			t.Errorf("a deposed controller offered %v", got)
		}
	})
}

func TestARejectedRevisionLeavesTheLastGoodOneInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		time.Sleep(time.Second)
		s.c.Snapshot(commit("c2", edgeManifest, "receivers: [\n"))
		time.Sleep(time.Second)
		synctest.Wait()
		var revisions []reconciler.RevisionStatus
		if err := s.c.Query(t.Context(), func(v controller.View) { revisions = v.Revisions() }); err != nil {
			t.Fatal(err)
		}
		if len(revisions) != 2 || revisions[0].Accepted || !revisions[1].Accepted {
			t.Fatalf("revisions %+v", revisions)
		}
		if p := revisions[0].Problems; len(p) == 0 || !strings.HasPrefix(p[0], "edge.yaml:") {
			t.Errorf("problems %q do not say where", p)
		}
		if st, _ := s.view(); st.TargetRevision.ID != "c1" {
			t.Errorf("the target is of revision %q", st.TargetRevision.ID)
		}
		if len(s.given()) != 1 || len(s.saved) != 1 {
			t.Errorf("offers %v, saved %v", s.given(), s.saved)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// A fleet that reports all the time must not starve the loop, nor drive it: ticks
// come at the pace of Settle.
func TestAChattyFleetNeitherStarvesNorDrivesTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		began := len(s.given())
		for range 1000 {
			s.says(fleet.Offer{Agent: fleet.AgentID{1}}, fleet.Unset)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if len(s.given()) == began {
			t.Error("a second of reports, and nothing was decided")
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestCommandsAreAnsweredOnceDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShell(t, reconciler.State{})
		stop := s.run()
		s.hello(1)
		s.c.Snapshot(commit("c1", edgeManifest, edgeConfig))
		time.Sleep(time.Second)
		s.setFail(errors.New("disk full"))
		answered := make(chan rollout.Answer, 1)
		go func() {
			a, err := s.c.Command(t.Context(), reconciler.Intent{Rollout: "edge", Command: rollout.Command{Verb: rollout.VerbPause, By: "me"}})
			if err != nil {
				t.Error(err)
			}
			answered <- a
		}()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		select {
		case a := <-answered:
			t.Fatalf("answered %+v before it was durable", a)
		default:
		}
		s.setFail(nil)
		if a := <-answered; a.Refused != "" {
			t.Errorf("refused: %s", a.Refused)
		}
		if st, _ := s.view(); st.Hold != rollout.UserPaused {
			t.Errorf("hold %v", st.Hold)
		}
		a, err := s.c.Command(t.Context(), reconciler.Intent{Rollout: "edge", Command: rollout.Command{Verb: rollout.VerbRollback, Target: fleet.Hash{9}}})
		if err != nil || a.Refused == "" {
			t.Errorf("a command for another target was answered %+v, %v", a, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}
