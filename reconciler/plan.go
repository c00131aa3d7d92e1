package reconciler

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// State is everything durable: what the store keeps and a restart begins with.
// All times in it are UTC, whole milliseconds, without a monotonic reading, so
// that values compare with == and survive encoding.
type State struct {
	Rollouts []rollout.State // sorted by name
	Watched  time.Time       // until when somebody was watching; a later gap is nobody's fault
}

// Rollout returns the state of one rollout.
func (s State) Rollout(name string) (rollout.State, bool) {
	for _, r := range s.Rollouts {
		if r.Name == name {
			return r, true
		}
	}
	return rollout.State{}, false
}

// World is what the shell observed, as of Now.
type World struct {
	Now       time.Time      // UTC, whole milliseconds, never before State.Watched
	Set       *manifest.Set  // the last commit that checked; nil: none yet, nothing moves
	Agents    []*fleet.Agent // all known, sorted by ID; not changed during the call
	Ownership *Ownership     // of the last plan, if neither Set nor any agent's labels, capabilities or presence in Agents changed since; else nil
	Intents   []Intent       // what people asked for since the last call
}

// Intent is one request of a person, outside git: temporary, journalled, and
// answered in the plan of the call that sees it.
type Intent struct {
	Rollout string
	Command rollout.Command
}

// Plan is what to do, complete, in the order in which it must be done: State is
// made durable before an offer leaves, and everything else tells about it.
type Plan struct {
	State     State
	Offers    []fleet.Offer    // every connected agent that should be offered something and has not said it has it
	Events    []rollout.Event  // what happened, in order
	Answers   []rollout.Answer // one for each intent
	Status    Status           // for people and gauges
	WakeAt    time.Time        // reconcile again then, even if nothing happens; zero: never
	Ownership *Ownership       // to be handed back in the next World
}
