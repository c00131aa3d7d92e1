package manifest

import (
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/bellwether-opamp/bellwether/internal/otelconf"
)

// Setting is one line of the settings file of `serve`: a flag's name without the
// dashes, and its value as the flag would have it.
type Setting struct {
	Key       string
	Value     string
	Line, Col int
}

// ParseSettings reads a settings file: one flat YAML map from the names of flags
// to their values, in order. A list is written as its items with commas between
// them. Which keys exist is for the caller to say. A nil list comes with problems,
// unless the file holds nothing.
func ParseSettings(file string, body []byte) ([]Setting, []Problem) {
	nodes, problems := otelconf.Documents(file, body, otelconf.Limits{})
	if otelconf.Failed(problems) || len(nodes) == 0 {
		return nil, problems
	}
	d := &decoder{file: file}
	if len(nodes) > 1 {
		d.add(nodes[1], "yaml", "a settings file is one YAML document")
	}
	n := nodes[0]
	if n.Kind != yaml.MappingNode {
		d.add(n, "type", "a settings file must be a map, not %s", describe(n))
		return nil, d.problems
	}
	var settings []Setting
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := plain(n.Content[i]), plain(n.Content[i+1])
		if key.Tag != "!!str" {
			d.add(key, "type", "the name of a setting must be text")
			continue
		}
		s := Setting{Key: key.Value, Line: key.Line, Col: key.Column}
		switch {
		case value.Kind == yaml.SequenceNode:
			var items []string
			for _, item := range list(value) {
				items = append(items, d.settingValue(item, key.Value))
			}
			s.Value = strings.Join(items, ",")
		default:
			s.Value = d.settingValue(value, key.Value)
		}
		settings = append(settings, s)
	}
	if len(d.problems) > 0 {
		return nil, otelconf.SortProblems(d.problems)
	}
	return settings, problems
}

// settingValue is a scalar as it was written: the flag knows what to make of it.
func (d *decoder) settingValue(n *yaml.Node, key string) string {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.add(n, "type", "%s must be text, a number or true or false, not %s", key, describe(n))
		return ""
	}
	return n.Value
}
