package sim

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Fault is what an agent does with a config instead of just running it.
type Fault uint8

// The faults. After each is what its duration means, and the default.
const (
	Healthy    Fault = iota // nothing is wrong
	Refuse                  // says FAILED at once and keeps what it runs
	Sick                    // applies, and is unhealthy for good after the duration (0)
	Slow                    // applies only after the duration (30s)
	Flapping                // applies, and changes its health each time the duration has passed (5s)
	Offline                 // disconnects when it is offered; applies when it is back after the duration (0: never back)
	SelfRevert              // applies, and goes back to what it ran before after the duration (5s)
)

// faults is the table that ParseFault and String share.
func faults() []struct {
	fault Fault
	name  string
	after time.Duration
} {
	return []struct {
		fault Fault
		name  string
		after time.Duration
	}{
		{Healthy, "healthy", 0},
		{Refuse, "refuse", 0},
		{Sick, "sick", 0},
		{Slow, "slow", 30 * time.Second},
		{Flapping, "flapping", 5 * time.Second},
		{Offline, "offline", 0},
		{SelfRevert, "self-revert", 5 * time.Second},
	}
}

// String returns the name that [ParseFault] reads.
func (f Fault) String() string { return faults()[f].name }

// Rule says which agents have a fault, with which configs. The first of a
// fleet's rules that matches an offer counts. The zero value matches everything
// and is no fault.
type Rule struct {
	Fault Fault
	After time.Duration

	labels   []condition
	contains []string // texts that the config must hold, all of them
}

type condition struct {
	key, value string
	part       bool // value is a part of the label's, not all of it
}

// Errors of [ParseFault]; the text around them quotes the rule.
var (
	errFault     = errors.New("want refuse, sick, slow, flapping, offline, self-revert or healthy, with an optional =duration")
	errCondition = errors.New("want *, key=value, key~=part, config~=text or contains(text)")
	errParen     = errors.New("contains( without )")
)

// ParseFault reads one rule:
//
//	rule      = [ condition { "," condition } ":" ] fault [ "=" duration ]
//	condition = "*"                    any agent, any config
//	          | key "=" value          the label is this
//	          | key "~=" part          the label has this in it
//	          | "config~=" text        a file of the config has this in it
//	          | "contains(" text ")"   the same, for texts with commas and colons
//	fault     = "refuse" | "sick" | "slow" | "flapping" | "offline" | "self-revert" | "healthy"
//
// All conditions of a rule must hold; none is the same as "*". A colon in a value
// is fine: the last one outside parentheses ends the conditions. Examples:
//
//	ring=canary:refuse
//	*:sick=10s
//	contains(unknown_exporter):refuse
//	region=eu-west,config~=debug:slow=2s
func ParseFault(s string) (Rule, error) {
	conditions, fault, err := splitRule(s)
	if err != nil {
		return Rule{}, fmt.Errorf("fault %q: %w", s, err)
	}
	var r Rule
	if err := r.parseFault(fault); err != nil {
		return Rule{}, fmt.Errorf("fault %q: %w", s, err)
	}
	for _, c := range conditions {
		if err := r.parseCondition(c); err != nil {
			return Rule{}, fmt.Errorf("fault %q: %w", s, err)
		}
	}
	return r, nil
}

// splitRule cuts at the commas and the last colon that are outside parentheses.
func splitRule(s string) (conditions []string, fault string, err error) {
	start, colon, depth := 0, -1, 0
	var commas []int
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case depth == 0 && strings.HasPrefix(s[i:], "contains("):
			depth++
			i += len("contains(") - 1
		case depth > 0 && c == '(':
			depth++
		case depth > 0 && c == ')':
			depth--
		case depth == 0 && c == ',':
			commas = append(commas, i)
		case depth == 0 && c == ':':
			colon = i
		}
	}
	if depth > 0 {
		return nil, "", errParen
	}
	if colon < 0 {
		return nil, s, nil
	}
	for _, at := range commas {
		if at < colon {
			conditions = append(conditions, s[start:at])
			start = at + 1
		}
	}
	return append(conditions, s[start:colon]), s[colon+1:], nil
}

func (r *Rule) parseFault(s string) error {
	name, after, given := strings.Cut(strings.TrimSpace(s), "=")
	for _, f := range faults() {
		if f.name != name {
			continue
		}
		r.Fault, r.After = f.fault, f.after
		if !given {
			return nil
		}
		d, err := time.ParseDuration(after)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no duration", after)
		}
		r.After = d
		return nil
	}
	return errFault
}

func (r *Rule) parseCondition(s string) error {
	s = strings.TrimSpace(s)
	if s == "*" {
		return nil
	}
	if text, ok := strings.CutPrefix(s, "contains("); ok {
		text, ok = strings.CutSuffix(text, ")")
		if !ok || text == "" {
			return errCondition
		}
		r.contains = append(r.contains, text)
		return nil
	}
	key, value, ok := strings.Cut(s, "=")
	key, part := strings.CutSuffix(key, "~")
	switch {
	case !ok || key == "" || value == "":
		return errCondition
	case key == "config" && part:
		r.contains = append(r.contains, value)
	default:
		r.labels = append(r.labels, condition{key: key, value: value, part: part})
	}
	return nil
}

// String returns the rule as [ParseFault] reads it.
func (r Rule) String() string {
	var parts []string
	for _, c := range r.labels {
		op := "="
		if c.part {
			op = "~="
		}
		parts = append(parts, c.key+op+c.value)
	}
	for _, text := range r.contains {
		parts = append(parts, "contains("+text+")")
	}
	if len(parts) == 0 {
		parts = []string{"*"}
	}
	s := strings.Join(parts, ",") + ":" + r.Fault.String()
	if r.After != 0 || faults()[r.Fault].after != 0 { // 0 is not left out where it is not the default
		s += "=" + r.After.String()
	}
	return s
}

// matches reports whether the rule is about this agent and this config.
func (r Rule) matches(labels fleet.Labels, files []fleet.File) bool {
	for _, c := range r.labels {
		if got, ok := labels[c.key]; !ok || got != c.value && (!c.part || !strings.Contains(got, c.value)) {
			return false
		}
	}
	for _, text := range r.contains {
		if !mentions(files, text) {
			return false
		}
	}
	return true
}

func mentions(files []fleet.File, text string) bool {
	for _, f := range files {
		if strings.Contains(string(f.Body), text) {
			return true
		}
	}
	return false
}

// faultOf returns the first rule that is about this agent and this config.
func faultOf(rules []Rule, labels fleet.Labels, files []fleet.File) Rule {
	for _, r := range rules {
		if r.matches(labels, files) {
			return r
		}
	}
	return Rule{}
}
