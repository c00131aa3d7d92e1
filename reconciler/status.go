package reconciler

import (
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// Status is the fleet as people see it: the source of the API, the gauges and the
// CLI. It holds no agent by name, so it stays small.
type Status struct {
	Revision    fleet.Revision  // of the Set in force
	Rollouts    []RolloutStatus // sorted by name
	Agents      int             // known
	Connected   int
	Unmatched   int // no rollout selects them: they keep what they have
	Conflicting int // two rollouts of one priority select them: nobody moves them
}

// RolloutStatus is one rollout as people see it.
type RolloutStatus struct {
	Name           string
	Phase          rollout.Phase
	Hold           rollout.Hold
	Reason         string // one sentence: why nothing moves and what would make it move; or what is going on
	Target         fleet.Hash
	TargetRevision fleet.Revision
	Attempt        uint32
	Stable         fleet.Hash
	StableRevision fleet.Revision
	Blocked        fleet.Hash
	UserPaused     bool
	Orphaned       bool // git no longer declares it: its agents keep what they have

	Wave      int // index into Waves
	Waves     []WaveStatus
	Disturbed int
	Budget    int

	Agents  int                // owned by this rollout
	States  map[AgentState]int // every state present, zeros included
	Syncs   map[SyncState]int  // every state present, zeros included
	Failing []FailingAgent     // the first few agents that failed, sorted by id

	StartedAt  time.Time
	PhaseAt    time.Time
	ProgressAt time.Time
	WakeAt     time.Time // the next moment at which something may change by itself
}

// WaveStatus is one wave of the attempt.
type WaveStatus struct {
	Name    string
	Members int
	Bake    time.Duration
	Results map[rollout.Result]int // every result present, zeros included
}

// FailingAgent is an agent that made a wave suffer.
type FailingAgent struct {
	Agent   fleet.AgentID
	Wave    string
	Failure rollout.Failure
	Message string // the agent's own error text, if any
}

// AgentState is how an agent is, whatever it should run.
type AgentState uint8

// The states of agents; the words of bellwether_agents.
const (
	Healthy AgentState = iota
	Unhealthy
	Offline
	Unobservable
)

// AgentStates returns every state, in order.
func AgentStates() []AgentState { return []AgentState{Healthy, Unhealthy, Offline, Unobservable} }

var stateWords = [...]string{"healthy", "unhealthy", "offline", "unobservable"}

// String returns the word used in the API and the metrics.
func (s AgentState) String() string {
	return stateWords[s&3]
}

// SyncState is how what an agent runs relates to what it should run.
type SyncState uint8

// The sync states; the words of bellwether_agents_sync.
const (
	InSync      SyncState = iota // it runs what it is assigned
	Pending                      // it has not said anything about it yet
	ApplyingNow                  // it is trying
	FailedSync                   // it refused
	Drifted                      // it runs something else, by itself
	Unsupported                  // it accepts no remote config
)

// SyncStates returns every sync state, in order.
func SyncStates() []SyncState {
	return []SyncState{InSync, Pending, ApplyingNow, FailedSync, Drifted, Unsupported}
}

var syncWords = [...]string{"in_sync", "pending", "applying", "failed", "drifted", "unsupported"}

// String returns the word used in the API and the metrics.
func (s SyncState) String() string {
	return syncWords[s%6]
}
