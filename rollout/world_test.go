package rollout

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"pgregory.net/rapid"
)

const steerable = fleet.ReportsStatus | fleet.AcceptsRemoteConfig | fleet.ReportsRemoteConfig | fleet.ReportsHealth

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// The contents that commits choose from; the first byte says how it behaves.
var contents = []fleet.Hash{{1}, {2}, {3}, {4}, {5}}

// temper is how one agent takes a new config.
type temper int

const (
	docile  temper = iota // applies and is healthy
	slow                  // takes minutes
	rejects               // says FAILED to even contents
	sick                  // applies even contents and is unhealthy
	flaps                 // is healthy every other look
	reverts               // applies, then says FAILED and goes back by itself
	dies                  // goes offline when it applies even contents
	mute                  // never tells what became of an offer
	tempers
)

type simAgent struct {
	fleet.Agent
	temper  temper
	offered fleet.Delivery // on its way
	due     time.Time      // when it will be applied
	failed  map[fleet.Delivery]bool
	session fleet.Delivery // what this session was offered last
}

// choose draws a number in [0, n).
type choose func(n int) int

// world is a random fleet under one rollout. Everything random is chosen by pick.
type world struct {
	pick   choose
	now    time.Time
	spec   Spec
	target fleet.Hash
	rev    int
	agents []*simAgent // sorted by ID
	next   byte
	gap    time.Duration
	state  State
}

// look is one step as seen from the outside.
type look struct {
	prev, next State
	in         Input
	out        Output
	agents     []*simAgent
	offers     map[fleet.AgentID]fleet.Delivery // what leaves after the step
}

func newTestWorld(pick choose) *world {
	w := &world{pick: pick, now: noon, state: State{Name: "edge"}, target: contents[0]}
	w.spec = Spec{
		MaxUnavailable:   Size{Count: 1 + pick(3)},
		MinHealthyTime:   time.Duration(10+10*pick(3)) * time.Second,
		HealthyDeadline:  2 * time.Minute,
		ProgressDeadline: 5 * time.Minute,
		OnFailure:        OnFailure(1 + pick(2)),
	}
	for i := range pick(3) {
		wave := Wave{Name: fmt.Sprint("w", i), MaxFailures: pick(2), OnFailure: OnFailure(pick(3)), Bake: time.Duration(pick(3)) * 20 * time.Second}
		switch pick(3) {
		case 0:
			wave.Size = Size{Count: 1 + pick(2)}
		case 1:
			wave.Size = Size{Percent: 30}
		}
		if pick(3) == 0 {
			wave.Selector = ringMatcher("canary")
		}
		w.spec.Waves = append(w.spec.Waves, wave)
	}
	for range pick(12) {
		w.join()
	}
	return w
}

type ringMatcher string

func (m ringMatcher) Matches(l fleet.Labels) bool { return l["ring"] == string(m) }

func (w *world) join() {
	if len(w.agents) >= 14 {
		return
	}
	w.next++
	a := &simAgent{failed: map[fleet.Delivery]bool{}}
	a.ID = fleet.AgentID{w.next * 37, w.next} // not in the order of joining
	a.Capabilities, a.Connected, a.Known, a.Healthy, a.Since = steerable, true, true, true, w.now
	if w.pick(2) == 0 {
		a.temper = temper(w.pick(int(tempers)))
	}
	if a.temper == mute {
		a.Capabilities &^= fleet.ReportsRemoteConfig
		a.Known = false
	}
	if w.pick(4) == 0 {
		a.Labels = fleet.Labels{"ring": "canary"}
	}
	w.agents = append(w.agents, a)
	slices.SortFunc(w.agents, func(a, b *simAgent) int { return a.ID.Compare(b.ID) })
}

// commands draws what people and the fleet do, and lets time pass.
func (w *world) happen() (commands []Command) {
	switch w.pick(24) {
	case 0:
		w.target = contents[w.pick(len(contents))]
		w.rev++
	case 1:
		w.spec.Paused = !w.spec.Paused
	case 2:
		w.spec.RetryToken = fmt.Sprint(w.pick(3))
	case 3:
		commands = append(commands, Command{Verb: Verbs()[w.pick(6)], By: "p"})
	case 4:
		w.join()
	case 5:
		if len(w.agents) > 0 && w.pick(2) == 0 {
			w.agents = slices.Delete(slices.Clone(w.agents), 0, 1)
		}
	case 6, 7:
		w.toggle(1)
	case 8:
		w.toggle(len(w.agents))
	case 9:
		if w.pick(3) == 0 {
			w.gap = time.Duration(2+w.pick(20)) * time.Minute
			w.now = w.now.Add(w.gap)
		}
	case 10:
		w.spec.Paused = false
		w.state.UserPaused = false
	}
	step := []time.Duration{0, time.Second, 10 * time.Second, 30 * time.Second, 2 * time.Minute}[w.pick(5)]
	w.now = w.now.Add(step)
	return commands
}

// toggle takes agents off the network, or back.
func (w *world) toggle(n int) {
	for range n {
		if len(w.agents) == 0 {
			return
		}
		a := w.agents[w.pick(len(w.agents))]
		a.Connected = !a.Connected
		a.Since = w.now
		a.session = fleet.Delivery{}
		if a.Connected {
			a.Known = a.temper != mute && w.pick(3) > 0
		}
	}
}

// react lets every agent do what it does.
func (w *world) react() {
	for _, a := range w.agents {
		if !a.Connected {
			continue
		}
		if a.temper != mute {
			a.Known = true
		}
		if a.temper == flaps {
			a.Healthy = w.pick(2) == 0
		}
		if a.offered.IsZero() || w.now.Before(a.due) {
			continue
		}
		d := a.offered
		a.offered = fleet.Delivery{}
		if a.temper == mute {
			continue
		}
		a.take(d)
		if !a.Connected {
			a.Since = w.now
		}
	}
}

func (a *simAgent) take(d fleet.Delivery) {
	even := d.Config[0]%2 == 0
	before := a.Delivery
	a.Delivery, a.Status, a.Healthy = d, fleet.Applied, true
	switch {
	case a.temper == rejects && even:
		a.Status, a.LastFailed, a.failed[d] = fleet.Failed, d, true
	case a.temper == sick && even:
		a.Healthy = false
	case a.temper == reverts && even:
		a.LastFailed, a.failed[d] = d, true
		a.Delivery = before
		if before.IsZero() {
			a.Status = fleet.Unset
		}
	case a.temper == dies && even:
		a.Connected = false
	}
}

func (w *world) step(commands []Command) look {
	in := Input{
		Now: w.now, Gap: w.gap, Target: w.target, Revision: fleet.Revision{ID: fmt.Sprint(w.rev)}, Commands: commands,
	}
	w.gap = 0
	spec := w.spec
	in.Spec = &spec
	copies := make([]*simAgent, len(w.agents))
	for i, a := range w.agents {
		c := *a
		copies[i] = &c
		in.Agents = append(in.Agents, &c.Agent)
	}
	prev := w.state
	out := Step(prev, in)
	l := look{prev: prev, next: out.State, in: in, out: out, agents: copies, offers: map[fleet.AgentID]fleet.Delivery{}}
	w.state = out.State
	if w.pick(8) == 0 {
		w.state = recode(w.state)
	}
	for i, a := range w.agents {
		e, _ := out.State.Ledger.Get(a.ID)
		d, ok := out.State.Assignment(&e)
		if !ok || !a.Connected || a.LastFailed == d || a.Observable() && (!a.Known || a.Delivery == d) || a.session == d {
			continue
		}
		l.offers[a.ID] = d
		a.session = d
		a.offered, a.due = d, w.now.Add(time.Duration(w.pick(3))*time.Second)
		if a.temper == slow {
			a.due = w.now.Add(time.Duration(w.pick(200)) * time.Second)
		}
		_ = copies[i]
	}
	return l
}

// recode is a restart: the state through its durable form.
func recode(s State) State {
	header, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	var out State
	if err := json.Unmarshal(header, &out); err != nil {
		panic(err)
	}
	var body []byte
	for e := range s.Ledger.All() {
		body = AppendEntry(body, *e)
	}
	var entries []Entry
	for len(body) > 0 {
		var e Entry
		if e, body, err = DecodeEntry(body); err != nil {
			panic(err)
		}
		entries = append(entries, e)
	}
	out.Ledger = LedgerOf(entries)
	return out
}

// run lives through a random world and shows every step to see.
func run(pick choose, ticks int, see func(look)) {
	w := newTestWorld(pick)
	for range ticks {
		commands := w.happen()
		w.react()
		see(w.step(commands))
	}
}

// law checks that a law holds in random worlds. The law is made afresh for each
// world, so that it may remember.
func law(t *testing.T, make func(fail func(string, ...any)) func(look)) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		var log []string
		check := make(func(format string, args ...any) {
			t.Fatalf(format+"\n%s", append(args, strings.Join(log[max(0, len(log)-40):], "\n"))...)
		})
		number := rapid.Uint64()
		seed := number.Draw(t, "seed")
		random := rand.New(rand.NewPCG(seed, 1))
		ticks := rapid.IntRange(1, 100).Draw(t, "ticks")
		run(func(n int) int {
			if n <= 1 {
				return 0
			}
			return random.IntN(n)
		}, ticks, func(l look) {
			log = append(log, l.String())
			check(l)
		})
	})
}

// String tells a step in a few lines.
func (l look) String() string {
	var b strings.Builder
	s := l.next
	fmt.Fprintf(&b, "%s %v hold=%v wave=%d target=%s stable=%s gap=%v budget=%d wake=%s | %s", l.in.Now.Format(time.TimeOnly), s.Phase, s.Hold, s.Wave,
		short(s.TargetDelivery()), short(s.StableDelivery()), l.in.Gap, s.Budget, l.out.WakeAt.Format(time.TimeOnly), s.Reason)
	for _, c := range l.in.Commands {
		fmt.Fprintf(&b, " cmd=%v", c.Verb)
	}
	for e := range s.Ledger.All() {
		for _, a := range l.agents {
			if a.ID == e.Agent {
				fmt.Fprintf(&b, "\n    %s w%d %v/%v assigned=%s refused=%s dirty=%v moved=%v | temper=%d conn=%v known=%v healthy=%v %v(%s) lastFailed=%s offer=%s",
					e.Agent.String()[:4], e.Wave, e.Result, e.Failure, short(e.Assigned), short(e.Refused), e.Dirty, e.Moved,
					a.temper, a.Connected, a.Known, a.Healthy, a.Status, short(a.Delivery), short(a.LastFailed), short(l.offers[a.ID]))
			}
		}
	}
	return b.String()
}

func short(d fleet.Delivery) string {
	if d.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%d#%d", d.Config[0], d.Attempt)
}
