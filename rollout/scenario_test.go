package rollout

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/cockroachdb/datadriven"
)

// scenario is a small fleet under one rollout, driven by the commands of a file:
//
//	spec                      lines of "key value", and "wave NAME key=value ..."
//	join a01 a02 [ring=x]     agents appear, connected and healthy
//	leave a01                 they are forgotten
//	target c1 [revision=r1]   git asks for content c1
//	orphan                    git no longer declares the rollout
//	tick [d]                  time passes, then one step
//	report a01 ... WORD       applied, failed, sick, well, offline, online, reverts, foreign, mute, unsteerable
//	calm d                    time passes, step by step; everybody does at once what it is told
//	away d                    nobody watches for so long, then one step
//	do VERB [target=c1]       a person asks for something, in a step of its own
//	agents                    shows the ledger
//
// "all" stands for every agent. After each step the facts and the state are shown.
type scenario struct {
	now    time.Time
	spec   *Spec
	orphan bool
	target fleet.Hash
	rev    string
	agents []*fleet.Agent
	names  map[fleet.AgentID]string
	state  State
	wakeAt time.Time
	verb   []Command
	gap    time.Duration
}

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if !strings.HasSuffix(path, ".txt") {
			t.Skip("not a scenario")
		}
		s := &scenario{
			now: noon, state: State{Name: "edge"}, names: map[fleet.AgentID]string{},
			spec: &Spec{
				MaxUnavailable: Size{Percent: DefaultMaxUnavailable}, MinHealthyTime: DefaultMinHealthyTime,
				HealthyDeadline: DefaultHealthyDeadline, ProgressDeadline: DefaultProgressDeadline, OnFailure: Pause,
			},
		}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out, err := s.run(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			return out
		})
	})
}

func (s *scenario) run(d *datadriven.TestData) (string, error) {
	var words []string
	args := map[string]string{}
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			words = append(words, a.Key)
		} else {
			args[a.Key] = a.Vals[0]
		}
	}
	switch d.Cmd {
	case "spec":
		return "", s.setSpec(d.Input)
	case "join":
		return "", s.join(words, args)
	case "leave":
		s.agents = slices.DeleteFunc(slices.Clone(s.agents), func(a *fleet.Agent) bool { return slices.Contains(words, s.names[a.ID]) })
		return s.step(), nil
	case "target":
		n, err := strconv.Atoi(strings.TrimPrefix(words[0], "c"))
		s.target, s.rev, s.orphan = fleet.Hash{byte(n)}, args["revision"], false
		return s.step(), err
	case "orphan":
		s.orphan = true
		return s.step(), nil
	case "report":
		return "", s.report(words[:len(words)-1], words[len(words)-1])
	case "tick":
		return s.after(words)
	case "calm":
		return s.calm(words)
	case "away":
		gap, err := time.ParseDuration(words[0])
		s.gap, s.now = gap, s.now.Add(gap)
		return s.step(), err
	case "do":
		return s.do(words[0], args)
	case "agents":
		return s.ledger(), nil
	}
	return "", fmt.Errorf("unknown command %s", d.Cmd)
}

func (s *scenario) after(words []string) (string, error) {
	if len(words) > 0 {
		passed, err := time.ParseDuration(words[0])
		if err != nil {
			return "", err
		}
		s.now = s.now.Add(passed)
	}
	if s.target.IsZero() {
		return "", nil // nothing was asked for yet
	}
	return s.step(), nil
}

func (s *scenario) calm(words []string) (string, error) {
	passed, err := time.ParseDuration(words[0])
	until := s.now.Add(passed)
	s.wakeAt = s.now.Add(time.Second) // what was reported meanwhile is seen soon
	var b strings.Builder
	for s.now.Before(until) {
		next := s.now.Add(time.Second)
		if !s.obey() {
			next = until
			if s.wakeAt.After(s.now) && s.wakeAt.Before(until) {
				next = s.wakeAt
			}
		}
		s.now = next
		text := s.step()
		if s.now.Before(until) { // the state only at the end
			text = text[:strings.LastIndex(text[:len(text)-1], "\n")+1]
		}
		b.WriteString(text)
	}
	return b.String(), err
}

// obey lets every agent do what it is told, and reports whether any had to.
func (s *scenario) obey() bool {
	moved := false
	for _, a := range s.agents {
		e, _ := s.state.Ledger.Get(a.ID)
		d, ok := s.state.Assignment(&e)
		if ok && a.Connected && a.Known && a.Delivery != d && a.LastFailed != d {
			a.Delivery, a.Status, a.Error = d, fleet.Applied, ""
			moved = true
		}
	}
	return moved
}

func (s *scenario) do(verb string, args map[string]string) (string, error) {
	c := Command{By: "ann"}
	if err := c.Verb.UnmarshalText([]byte(verb)); err != nil {
		return "", err
	}
	if t := args["target"]; t != "" {
		n, err := strconv.Atoi(t[1:])
		if err != nil {
			return "", err
		}
		c.Target = fleet.Hash{byte(n)}
	}
	s.verb = []Command{c}
	return s.step(), nil
}

// step is one step, and what it did.
func (s *scenario) step() string {
	in := Input{Now: s.now, Gap: s.gap, Spec: s.spec, Target: s.target, Revision: fleet.Revision{ID: s.rev}, Agents: s.agents, Commands: s.verb}
	if s.orphan {
		in.Spec, in.Target = nil, fleet.Hash{}
	}
	s.gap, s.verb = 0, nil
	out := Step(s.state, in)
	s.state, s.wakeAt = out.State, out.WakeAt
	var b strings.Builder
	clock := s.now.Format(time.TimeOnly)
	for _, a := range out.Answers {
		if a.Refused != "" {
			fmt.Fprintf(&b, "%s refused: %s\n", clock, a.Refused)
		}
	}
	for _, e := range out.Events {
		fmt.Fprintf(&b, "%s %s\n", clock, s.tell(e))
	}
	hold := ""
	if s.state.Hold != NoHold {
		hold = "/" + s.state.Hold.String()
	}
	fmt.Fprintf(&b, "%s = %v%s. %s\n", clock, s.state.Phase, hold, s.state.Reason)
	return b.String()
}

func (s *scenario) tell(e Event) string {
	switch e.Kind {
	case EventStarted, EventSuperseded:
		return fmt.Sprintf("%v %s", e.Kind, content(e.Target))
	case EventWaveStarted, EventWaveDone:
		return fmt.Sprintf("%v %s n=%d", e.Kind, e.Wave, e.Count)
	case EventOffered:
		return fmt.Sprintf("%v %s to %d (%v)", e.Kind, content(e.Target), e.Count, e.Offer)
	case EventAgentOK:
		return fmt.Sprintf("%v %s %s", e.Kind, s.names[e.Agent], content(e.Target))
	case EventAgentFailed:
		return fmt.Sprintf("%v %s %s %v", e.Kind, s.names[e.Agent], content(e.Target), e.Failure)
	case EventAgentDeferred:
		return fmt.Sprintf("%v n=%d", e.Kind, e.Count)
	case EventPhase:
		return fmt.Sprintf("%v -> %v", e.From, e.Phase)
	case EventHold:
		return fmt.Sprintf("hold %q", e.Hold.String())
	case EventIntent:
		return e.Text
	}
	return e.Kind.String()
}

func (s *scenario) ledger() string {
	var b strings.Builder
	for e := range s.state.Ledger.All() {
		fmt.Fprintf(&b, "%s %s %v", s.names[e.Agent], waveOf(&s.state, e), e.Result)
		if e.Failure != NoFailure {
			fmt.Fprintf(&b, "(%v)", e.Failure)
		}
		fmt.Fprintf(&b, " assigned=%s", content(e.Assigned))
		if !e.Refused.IsZero() {
			fmt.Fprintf(&b, " refused=%s", content(e.Refused))
		}
		if e.Dirty {
			b.WriteString(" disturbed")
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "budget %d\n", s.state.Budget)
	return b.String()
}

func waveOf(s *State, e *Entry) string {
	if e.Wave < 0 || int(e.Wave) >= len(s.Waves) {
		return "-"
	}
	return s.Waves[e.Wave].Name
}

func content(d fleet.Delivery) string {
	switch {
	case d.IsZero():
		return "-"
	case d.Attempt > 0:
		return fmt.Sprintf("c%d#%d", d.Config[0], d.Attempt)
	}
	return fmt.Sprintf("c%d", d.Config[0])
}
