package rollout

import (
	"fmt"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Spec says how a rollout moves: the checked form of the manifest's spec, with
// every default filled in. It is never changed after parsing.
type Spec struct {
	Waves            []Wave // as written; the implicit last wave "rest" is not among them
	MaxUnavailable   Size   // agents disturbed at once: Limit of the frozen total
	MinHealthyTime   time.Duration
	HealthyDeadline  time.Duration
	ProgressDeadline time.Duration
	OnFailure        OnFailure // never Inherit
	Paused           bool
	RetryToken       string
}

// The defaults of a [Spec].
const (
	DefaultMinHealthyTime   = 30 * time.Second
	DefaultHealthyDeadline  = 5 * time.Minute
	DefaultProgressDeadline = 10 * time.Minute
	DefaultMaxUnavailable   = 10 // percent
)

// Rest is the name of the implicit last wave: whoever no other wave took.
const Rest = "rest"

// Wave is one wave as written in the manifest.
type Wave struct {
	Name        string
	Size        Size    // zero: everybody who matches and is left
	Selector    Matcher // nil: anybody
	Bake        time.Duration
	MaxFailures int       // more failed agents than this fail the wave
	OnFailure   OnFailure // Inherit: the Spec's
}

// Matcher decides by labels whether an agent belongs. It must be a pure function
// of the labels.
type Matcher interface {
	Matches(labels fleet.Labels) bool
}

// OnFailure says what a failed wave does.
type OnFailure uint8

// What a failed wave does. Inherit is only meaningful on a [Wave].
const (
	Inherit OnFailure = iota
	Pause
	Rollback
)

// String returns "", "pause" or "rollback".
func (o OnFailure) String() string { return [...]string{"", "pause", "rollback"}[o%3] }

// Size is a number of agents: a count, or a share of a total. The zero value
// means "all".
type Size struct {
	Count   int
	Percent float64 // used when greater than zero, at most 100
}

// IsZero reports whether s is the zero value, "all".
func (s Size) IsZero() bool { return s == Size{} }

// Of returns the size of a wave, rounded up: 5 % of 12 is 1, of 100 is 5, of 101
// is 6. Never more than total.
func (s Size) Of(total int) int {
	switch {
	case s.Percent > 0:
		return min(total, ceil(float64(total)*s.Percent/100))
	case s.Count > 0:
		return min(total, s.Count)
	}
	return total
}

// Limit returns a bound on agents, rounded down but at least 1: 10 % of 25 is 2,
// of 9 is 1.
func (s Size) Limit(total int) int {
	switch {
	case s.Percent > 0:
		return max(1, int(float64(total)*s.Percent/100+1e-9))
	case s.Count > 0:
		return s.Count
	}
	return max(1, total)
}

func ceil(f float64) int {
	n := int(f)
	if f-float64(n) > 1e-9 {
		n++
	}
	return n
}

// String returns what a manifest would say: "2", "5%" or "all".
func (s Size) String() string {
	switch {
	case s.Percent > 0:
		return fmt.Sprintf("%g%%", s.Percent)
	case s.Count > 0:
		return fmt.Sprint(s.Count)
	}
	return "all"
}
