package reconciler

import (
	"maps"
	"slices"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/manifest"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// The owners that are no rollout.
const (
	nobody    = -1 // no rollout selects the agent
	contested = -2 // two rollouts of one priority do
)

// Ownership says which rollout owns which agents: for each agent at most one
// (promise I15), the one of highest priority that selects it; a tie is a conflict
// and nobody moves the agent. It is immutable, and valid for as long as neither
// the manifests nor any agent's labels, capabilities or presence change.
type Ownership struct {
	set       *manifest.Set
	agents    []*fleet.Agent // as in the World it was made from
	owner     []int32        // of each agent: index into names, nobody or contested
	names     []string       // rollouts of the set, then orphans
	owned     [][]*fleet.Agent
	specs     []*rollout.Spec // of the set's rollouts, their selectors seeing git's labels too
	unmatched int
	conflicts int
}

// NewOwnership matches the agents, sorted by ID, to the rollouts of the set. An
// agent whose labels are unknown, because we restarted and it has not come back yet,
// or has and does not repeat itself, stays with the rollout whose ledger holds it;
// when none does, nobody owns it until it describes itself.
func NewOwnership(set *manifest.Set, s State, agents []*fleet.Agent) *Ownership {
	o := &Ownership{set: set, agents: agents, owner: make([]int32, len(agents))}
	index := map[string]int32{}
	for _, r := range set.Rollouts {
		index[r.Name] = int32(len(o.names))
		o.names = append(o.names, r.Name)
		o.specs = append(o.specs, withLabels(&r.Spec, set.Labels))
	}
	declared := len(o.names)
	for _, r := range s.Rollouts {
		if _, ok := index[r.Name]; !ok {
			index[r.Name] = int32(len(o.names))
			o.names = append(o.names, r.Name)
		}
	}
	held := holders(s, agents, index)
	o.owned = make([][]*fleet.Agent, len(o.names))
	for i, a := range agents {
		owner := held[i]
		if described(a) {
			owner = match(set, a)
		}
		o.owner[i] = owner
		switch {
		case owner >= 0:
			o.owned[owner] = append(o.owned[owner], a)
			continue
		case owner == nobody:
			o.unmatched++
		default:
			o.conflicts++
		}
		if held[i] >= int32(declared) { // what an orphan gave it, it keeps, and we remember
			o.owned[held[i]] = append(o.owned[held[i]], a)
		}
	}
	return o
}

// described reports whether the agent has told its labels since we started: the
// first message of a session may leave out what has not changed.
func described(a *fleet.Agent) bool { return a.Labels != nil }

// unseen reports whether the agent has not yet said what it can do.
func unseen(a *fleet.Agent) bool { return a.Capabilities == 0 }

// holders returns, for each agent, the rollout whose ledger has it, or nobody.
func holders(s State, agents []*fleet.Agent, index map[string]int32) []int32 {
	held := make([]int32, len(agents))
	for i := range held {
		held[i] = nobody
	}
	for _, r := range s.Rollouts {
		for i := range side(&r.Ledger, agents) {
			held[i] = index[r.Name]
		}
	}
	return held
}

func match(set *manifest.Set, a *fleet.Agent) int32 {
	labels := merged(a.Labels, set.Labels)
	owner, priority := int32(nobody), 0
	for i, r := range set.Rollouts {
		if !r.Selector.Matches(labels) {
			continue
		}
		switch {
		case owner == nobody || r.Priority > priority:
			owner, priority = int32(i), r.Priority
		case r.Priority == priority:
			owner = contested
		}
	}
	return owner
}

// merged returns what selectors see: the labels an agent reports, and those that
// git adds. A git label never overrides a reported one; of several rules that set
// one label the first counts.
func merged(reported fleet.Labels, rules []manifest.LabelRule) fleet.Labels {
	out, ours := reported, false
	for _, rule := range rules {
		if !covers(reported, rule.Match) {
			continue
		}
		for k, v := range rule.Set {
			if _, taken := out[k]; taken {
				continue
			}
			if !ours {
				clone := make(fleet.Labels, len(reported)+len(rule.Set))
				maps.Copy(clone, reported)
				out, ours = clone, true
			}
			out[k] = v
		}
	}
	return out
}

func covers(labels, match fleet.Labels) bool {
	for k, v := range match {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// seesLabels is a selector that also sees the labels set from git.
type seesLabels struct {
	rules []manifest.LabelRule
	inner rollout.Matcher
}

// Matches implements [rollout.Matcher].
func (m seesLabels) Matches(labels fleet.Labels) bool {
	return m.inner.Matches(merged(labels, m.rules))
}

func withLabels(spec *rollout.Spec, rules []manifest.LabelRule) *rollout.Spec {
	if len(rules) == 0 {
		return spec
	}
	out := *spec
	out.Waves = slices.Clone(spec.Waves)
	for i, w := range out.Waves {
		if w.Selector != nil {
			out.Waves[i].Selector = seesLabels{rules, w.Selector}
		}
	}
	return &out
}

// Owner returns the rollout that owns the agent, or false when none does;
// conflict says that this is because two of one priority select it.
func (o *Ownership) Owner(id fleet.AgentID) (name string, conflict, ok bool) {
	if o == nil {
		return "", false, false
	}
	i, found := slices.BinarySearchFunc(o.agents, id, func(a *fleet.Agent, id fleet.AgentID) int { return a.ID.Compare(id) })
	if !found || o.owner[i] < 0 {
		return "", found && o.owner[i] == contested, false
	}
	return o.names[o.owner[i]], false, true
}
