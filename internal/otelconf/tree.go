package otelconf

import "gopkg.in/yaml.v3"

// value is one value of a config with aliases and merge keys expanded, and the
// place it was written at: after a merge the files differ from value to value.
type value struct {
	kind  yaml.Kind // ScalarNode, SequenceNode or MappingNode
	tag   string
	text  string // of a scalar
	style yaml.Style
	pairs []pair   // of a mapping, in order, names unique
	items []*value // of a sequence

	file      string
	line, col int
}

type pair struct {
	name string // the key as the Collector sees it
	key  *value
	val  *value
}

// get returns the value of a key of a mapping, or nil.
func (v *value) get(name string) *value {
	if v == nil {
		return nil
	}
	for _, p := range v.pairs {
		if p.name == name {
			return p.val
		}
	}
	return nil
}

func (v *value) isNull() bool { return v.kind == yaml.ScalarNode && v.tag == "!!null" }

// expand turns checked nodes into values. It relies on [Documents] having counted:
// it ends, and within the limit.
func expand(file string, n *yaml.Node) *value {
	if n.Kind == yaml.AliasNode {
		// The place is that of the alias for the value itself, and that of the
		// anchor for what is inside.
		v := *expand(file, n.Alias)
		v.line, v.col = n.Line, n.Column
		return &v
	}
	v := &value{kind: n.Kind, tag: n.Tag, text: n.Value, style: n.Style, file: file, line: n.Line, col: n.Column}
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			v.items = append(v.items, expand(file, item))
		}
	case yaml.MappingNode:
		v.pairs = expandPairs(file, n)
	}
	return v
}

// expandPairs lists a mapping's own pairs and then, for keys not among them, those
// of its << maps: what is written wins over what is merged in, and an earlier map
// of a list over a later one.
func expandPairs(file string, n *yaml.Node) []pair {
	var pairs []pair
	var merged []*value
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], expand(file, n.Content[i+1])
		if key.Kind != yaml.AliasNode && isMerge(key) {
			if val.kind == yaml.SequenceNode {
				merged = append(merged, val.items...)
			} else {
				merged = append(merged, val)
			}
			continue
		}
		k := expand(file, key)
		name := k.text
		if key.Kind != yaml.AliasNode {
			name = keyName(key)
		} else {
			name = keyName(key.Alias)
		}
		pairs = append(pairs, pair{name: name, key: k, val: val})
	}
	if len(merged) == 0 {
		return pairs
	}
	have := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		have[p.name] = true
	}
	for _, m := range merged {
		for _, p := range m.pairs {
			if !have[p.name] {
				have[p.name] = true
				pairs = append(pairs, p)
			}
		}
	}
	return pairs
}

// node turns a value into what the encoder takes: all in block style, without
// comments, scalars as they were written, or with quotes around every text.
func (v *value) node(quoted bool) *yaml.Node {
	n := &yaml.Node{Kind: v.kind, Tag: v.tag, Value: v.text, Style: v.style &^ yaml.FlowStyle}
	if quoted && v.kind == yaml.ScalarNode && v.tag == "!!str" {
		n.Style = yaml.DoubleQuotedStyle
	}
	for _, item := range v.items {
		n.Content = append(n.Content, item.node(quoted))
	}
	for _, p := range v.pairs {
		n.Content = append(n.Content, p.key.node(quoted), p.val.node(quoted))
	}
	return n
}

// same reports whether two values mean the same, wherever and however written.
func (v *value) same(w *value) bool {
	if v.kind != w.kind || v.tag != w.tag || v.text != w.text || len(v.items) != len(w.items) || len(v.pairs) != len(w.pairs) {
		return false
	}
	for i := range v.items {
		if !v.items[i].same(w.items[i]) {
			return false
		}
	}
	for i, p := range v.pairs {
		q := w.pairs[i]
		if p.name != q.name || !p.key.same(q.key) || !p.val.same(q.val) {
			return false
		}
	}
	return true
}
