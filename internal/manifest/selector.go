package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Selector decides by labels which agents are meant. All requirements must hold;
// a Selector without any selects every agent. It is immutable and safe for
// concurrent use.
type Selector struct {
	requirements []requirement
}

type operator uint8

const (
	in operator = iota
	notIn
	exists
	doesNotExist
	matches
)

var operators = [...]string{in: "In", notIn: "NotIn", exists: "Exists", doesNotExist: "DoesNotExist", matches: "Matches"}

type requirement struct {
	key      string
	operator operator
	values   []string         // sorted
	patterns []*regexp.Regexp // of Matches, anchored at both ends
}

// Matches reports whether an agent with these labels is selected. As in
// Kubernetes, NotIn and DoesNotExist hold for an agent without the label; In,
// Exists and Matches do not. An expression of Matches (RE2) must cover the whole
// value.
func (s *Selector) Matches(labels fleet.Labels) bool {
	for i := range s.requirements {
		if !s.requirements[i].holds(labels) {
			return false
		}
	}
	return true
}

func (r *requirement) holds(labels fleet.Labels) bool {
	value, ok := labels[r.key]
	switch r.operator {
	case in:
		return ok && slices.Contains(r.values, value)
	case notIn:
		return !ok || !slices.Contains(r.values, value)
	case exists:
		return ok
	case doesNotExist:
		return !ok
	default:
		return ok && slices.ContainsFunc(r.patterns, func(p *regexp.Regexp) bool { return p.MatchString(value) })
	}
}

// String returns a canonical text, the same for selectors that were written in
// another order: `ring=canary, env in (prod, staging)`, or "everything".
func (s *Selector) String() string {
	if len(s.requirements) == 0 {
		return "everything"
	}
	parts := make([]string, len(s.requirements))
	for i, r := range s.requirements {
		parts[i] = r.String()
	}
	return strings.Join(parts, ", ")
}

// String returns one requirement as people write it.
func (r *requirement) String() string {
	quoted := make([]string, len(r.values))
	for i, v := range r.values {
		quoted[i] = v
		if v == "" || strings.ContainsAny(v, " ,()\"") || strconv.Quote(v) != `"`+v+`"` {
			quoted[i] = strconv.Quote(v)
		}
	}
	values := strings.Join(quoted, ", ")
	switch {
	case r.operator == exists:
		return r.key
	case r.operator == doesNotExist:
		return "!" + r.key
	case r.operator == in && len(quoted) == 1:
		return r.key + "=" + values
	case r.operator == notIn && len(quoted) == 1:
		return r.key + "!=" + values
	}
	return fmt.Sprintf("%s %s (%s)", r.key, strings.ToLower(operators[r.operator]), values)
}

// selector reads a selector's body. It returns nil when there is a problem.
func (d *decoder) selector(n *yaml.Node) *Selector {
	before := d.errors
	s := &Selector{}
	d.object(n, "a selector",
		field{name: "matchLabels", read: func(n *yaml.Node) {
			labels := d.labels(n, "matchLabels")
			for _, key := range slices.Sorted(maps.Keys(labels)) {
				s.requirements = append(s.requirements, requirement{key: key, operator: in, values: []string{labels[key]}})
			}
		}},
		field{name: "matchExpressions", read: func(n *yaml.Node) {
			for _, item := range d.list(n, "matchExpressions") {
				if r, ok := d.requirement(item); ok {
					s.requirements = append(s.requirements, r)
				}
			}
		}})
	if d.errors > before {
		return nil
	}
	slices.SortStableFunc(s.requirements, func(a, b requirement) int { return strings.Compare(a.String(), b.String()) })
	return s
}

func (d *decoder) requirement(n *yaml.Node) (requirement, bool) {
	before := d.errors
	var r requirement
	var values *yaml.Node
	op := -1
	d.object(n, "a match expression",
		field{name: "key", required: true, read: func(n *yaml.Node) { r.key, _ = d.labelKey(n) }},
		field{name: "operator", required: true, read: func(n *yaml.Node) { op = d.enum(n, "operator", operators[:]...) }},
		field{name: "values", read: func(n *yaml.Node) {
			values = n
			for _, item := range d.list(n, "values") {
				if v, ok := d.text(item, "a value"); ok {
					r.values = append(r.values, v)
				}
			}
		}})
	if d.errors > before {
		return r, false
	}
	r.operator = operator(op)
	switch needs := r.operator != exists && r.operator != doesNotExist; {
	case needs && len(r.values) == 0:
		d.add(n, "selector", "%s needs values", operators[op])
	case !needs && values != nil:
		d.add(values, "selector", "%s takes no values", operators[op])
	case r.operator == matches:
		for _, item := range list(values) {
			p, err := regexp.Compile("^(?s:" + item.Value + ")$")
			if err != nil {
				d.add(item, "selector", "not a regular expression (RE2): %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
				continue
			}
			r.patterns = append(r.patterns, p)
		}
	}
	slices.Sort(r.values)
	r.values = slices.Compact(r.values)
	return r, d.errors == before
}
