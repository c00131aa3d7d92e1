package manifest

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/otelconf"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// decoder reads the nodes of one file. It takes no value for another: text is
// text and numbers are plain decimal numbers, because what YAML 1.1 and 1.2, or
// two libraries, read differently is not what the author meant for one of them.
type decoder struct {
	file     string
	errors   int
	problems []Problem
}

func (d *decoder) add(at *yaml.Node, rule, format string, args ...any) {
	d.errors++
	p := Problem{File: d.file, Rule: rule, Message: fmt.Sprintf(format, args...)}
	if at != nil {
		p.Line, p.Col = at.Line, at.Column
	}
	d.problems = append(d.problems, p)
}

// plain returns what an alias stands for, with the place of the alias.
func plain(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.AliasNode || n.Alias == nil {
		return n
	}
	target := *n.Alias
	target.Line, target.Column = n.Line, n.Column
	return &target
}

// field is one field of an object.
type field struct {
	name     string
	required bool
	read     func(*yaml.Node)
}

// object reads a map with known fields. It is false if it is not a map.
func (d *decoder) object(n *yaml.Node, what string, fields ...field) bool {
	n = plain(n)
	if n.Kind != yaml.MappingNode {
		d.add(n, "type", "%s must be a map, not %s", what, describe(n))
		return false
	}
	found := make([]bool, len(fields))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := plain(n.Content[i]), plain(n.Content[i+1])
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == key.Value })
		if at < 0 {
			d.unknown(key, what, fields)
			continue
		}
		found[at] = true
		fields[at].read(value)
	}
	for i, f := range fields {
		if f.required && !found[i] {
			d.add(n, "field", "%s needs the field %q", what, f.name)
		}
	}
	return true
}

func (d *decoder) unknown(key *yaml.Node, what string, fields []field) {
	if key.Tag == "!!merge" {
		d.add(key, "field", "<< is not allowed in a manifest: write it out")
		return
	}
	hint := ""
	if d.errors < 20 { // a hostile file could have very many
		names := make([]string, len(fields))
		for i, f := range fields {
			names[i] = f.name
		}
		hint = otelconf.DidYouMean(key.Value, names...)
	}
	d.add(key, "field", "%s has no field %q%s", what, key.Value, hint)
}

// list returns the items of a list, and a problem for anything else.
func (d *decoder) list(n *yaml.Node, what string) []*yaml.Node {
	n = plain(n)
	if n.Kind != yaml.SequenceNode {
		d.add(n, "type", "%s must be a list, not %s", what, describe(n))
		return nil
	}
	return list(n)
}

func list(n *yaml.Node) []*yaml.Node {
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = plain(item)
	}
	return items
}

func describe(n *yaml.Node) string { return otelconf.Describe(n.Kind, n.Tag) }

// text reads text. Numbers, dates and the like are not: as text they would be
// written another way by the next tool.
func (d *decoder) text(n *yaml.Node, what string) (string, bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str":
		return n.Value, true
	case n.Kind == yaml.ScalarNode && n.Tag != "!!null":
		d.add(n, "type", "%s must be text, not %s: put it in quotes", what, describe(n))
	default:
		d.add(n, "type", "%s must be text, not %s", what, describe(n))
	}
	return "", false
}

// enum reads one of the words and returns its index, or -1.
func (d *decoder) enum(n *yaml.Node, what string, words ...string) int {
	s, ok := d.text(n, what)
	if !ok {
		return -1
	}
	i := slices.Index(words, s)
	if i < 0 {
		d.add(n, "value", "%s is one of %s, not %q%s", what, strings.Join(words, ", "), s, otelconf.DidYouMean(s, words...))
	}
	return i
}

func (d *decoder) boolean(n *yaml.Node, what string) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
		d.add(n, "type", "%s must be true or false, not %s", what, describe(n))
		return false
	}
	return strings.EqualFold(n.Value, "true")
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// integer reads a whole number of at least least, in plain decimal digits.
func (d *decoder) integer(n *yaml.Node, what string, least int) int {
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag != "!!int":
		d.add(n, "type", "%s must be a whole number, not %s", what, describe(n))
		return 0
	case !decimal.MatchString(n.Value):
		d.add(n, "value", "%s must be written in plain decimal digits, without leading zeros: %q means different numbers to different YAML readers", what, n.Value)
		return 0
	}
	v, err := strconv.Atoi(n.Value)
	switch {
	case err != nil || v > math.MaxInt32 || v < math.MinInt32:
		d.add(n, "value", "%s is out of range", what)
		return 0
	case v < least:
		d.add(n, "value", "%s must be at least %d", what, least)
		return 0
	}
	return v
}

// duration reads a Go duration that is not negative.
func (d *decoder) duration(n *yaml.Node, what string) (time.Duration, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.add(n, "type", "%s must be a duration such as 90s, 15m or 1h30m, not %s", what, describe(n))
		return 0, false
	}
	v, err := time.ParseDuration(n.Value)
	switch {
	case n.Tag == "!!int" && n.Value != "0" || n.Tag == "!!float":
		d.add(n, "value", "%s needs a unit: a duration such as 90s, 15m or 1h30m", what)
	case err != nil:
		d.add(n, "value", "%s must be a duration such as 90s, 15m or 1h30m, not %q", what, short(n.Value))
	case v < 0:
		d.add(n, "value", "%s must not be negative", what)
	default:
		return v, true
	}
	return 0, false
}

var percent = regexp.MustCompile(`^([0-9]{1,3}(?:\.[0-9]{1,6})?)%$`)

// size reads a count of at least one, or a percentage above 0 and up to 100.
func (d *decoder) size(n *yaml.Node, what string) rollout.Size {
	const want = "a count such as 2, or a percentage such as 5%"
	switch {
	case n.Kind != yaml.ScalarNode || n.Tag == "!!null":
		d.add(n, "type", "%s must be %s, not %s", what, want, describe(n))
	case n.Tag == "!!int":
		return rollout.Size{Count: d.integer(n, what, 1)}
	case n.Tag == "!!str":
		m := percent.FindStringSubmatch(n.Value)
		if m == nil {
			d.add(n, "value", "%s must be %s, not %q", what, want, short(n.Value))
			break
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil || v <= 0 || v > 100 {
			d.add(n, "value", "%s must be above 0%% and at most 100%%", what)
			break
		}
		return rollout.Size{Percent: v}
	default:
		d.add(n, "type", "%s must be %s, not %s", what, want, describe(n))
	}
	return rollout.Size{}
}

var nameForm = regexp.MustCompile(`^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$`)

// name reads a name in the form of a DNS label.
func (d *decoder) name(n *yaml.Node, what string) (string, bool) {
	s, ok := d.text(n, what)
	if ok && !nameForm.MatchString(s) {
		d.add(n, "name", "%s must be 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends, not %q", what, short(s))
		ok = false
	}
	return s, ok
}

// labelKey reads the key of a label.
func (d *decoder) labelKey(n *yaml.Node) (string, bool) {
	s, ok := d.text(n, "a label's key")
	if ok && strings.TrimSpace(s) == "" {
		d.add(n, "value", "a label's key must not be empty")
		ok = false
	}
	return s, ok
}

// labels reads a map of text to text.
func (d *decoder) labels(n *yaml.Node, what string) fleet.Labels {
	n = plain(n)
	if n.Kind != yaml.MappingNode {
		d.add(n, "type", "%s must be a map, not %s", what, describe(n))
		return nil
	}
	labels := make(fleet.Labels, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := plain(n.Content[i]), plain(n.Content[i+1])
		if k, ok := d.labelKey(key); ok {
			if v, ok := d.text(value, "the label "+k); ok {
				labels[k] = v
			}
		}
	}
	return labels
}

// short cuts what a message quotes.
func short(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
