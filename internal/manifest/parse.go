package manifest

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/internal/otelconf"
)

// Parse checks everything a revision declares and returns all problems in order
// of file and place. The Set is nil exactly when one of them is an error; warnings
// alone reject nothing. Of very many problems the first are listed and the rest
// counted.
//
// A fault of our own rejects the revision, too: the process goes on with the last
// good one.
func Parse(snap fleet.Snapshot, opts Options) (*Set, []Problem) {
	return guard(func() (*Set, []Problem) { return parse(snap, opts) })
}

func guard(parse func() (*Set, []Problem)) (set *Set, problems []Problem) {
	defer func() {
		if fault := recover(); fault != nil {
			set, problems = nil, []Problem{{Rule: "internal", Message: fmt.Sprintf("a fault in the parser, please report it: %v", fault)}}
		}
	}()
	return parse()
}

func parse(snap fleet.Snapshot, opts Options) (*Set, []Problem) {
	opts.Limits.setDefaults()
	p := &parser{
		opts:      opts,
		tree:      newTree(snap),
		configs:   map[string]*loaded{},
		rendered:  map[string]*fleet.Config{},
		selectors: map[string]*named{},
		rollouts:  map[string]*draft{},
		labels:    map[string]*named{},
	}
	for i := range snap.Files {
		p.file(&snap.Files[i])
	}
	set := p.finish(snap.Revision)
	problems := otelconf.SortProblems(p.problems)
	if otelconf.Failed(problems) {
		set = nil
	}
	return set, p.cut(problems)
}

// parser collects over all files of a revision.
type parser struct {
	opts      Options
	tree      *tree
	configs   map[string]*loaded       // by path in the repository
	rendered  map[string]*fleet.Config // by the paths merged; nil: with errors
	selectors map[string]*named
	rollouts  map[string]*draft
	labels    map[string]*named
	rules     []LabelRule
	problems  []Problem
}

// named is a thing whose name must be unique, and where it was declared.
type named struct {
	file     string
	line     int
	selector *Selector // nil: with errors, or no selector at all
}

func (p *parser) add(file string, line, col int, rule, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: file, Line: line, Col: col, Rule: rule, Message: fmt.Sprintf(format, args...)})
}

// lfsPointer begins the stand-in that git has for a file kept in Git LFS.
const lfsPointer = "version https://git-lfs.github.com/spec/"

// file reads one file if it can hold manifests.
func (p *parser) file(f *fleet.Source) {
	if ext := strings.ToLower(path.Ext(f.Path)); ext != ".yaml" && ext != ".yml" {
		return
	}
	if f.Kind == fleet.Symlink {
		// What it points to is read where it lies; if that is elsewhere, a manifest
		// may be missing.
		if _, err := p.tree.resolve(f.Path); err != nil && err.leaves {
			p.add(f.Path, 0, 0, "path", "%s", err.message)
		}
		return
	}
	if f.Kind != fleet.Regular {
		return
	}
	if bytes.HasPrefix(f.Body, []byte(lfsPointer)) {
		p.add(f.Path, 1, 1, "lfs", "a Git LFS pointer instead of the content, which may be a manifest: keep YAML out of LFS")
		return
	}
	p.nearGroup(f)
	if !bytes.Contains(f.Body, []byte(Group+"/")) {
		return
	}
	nodes, problems := otelconf.Documents(f.Path, f.Body, p.opts.Limits.File)
	p.problems = append(p.problems, problems...)
	for _, n := range nodes {
		p.document(f.Path, n)
	}
}

// nearGroup finds the first apiVersion that is a slip of the finger away from
// ours. Its manifest would not be there, and nobody would be told. It looks at
// the text: the file need not be YAML, and there are many.
func (p *parser) nearGroup(f *fleet.Source) {
	const slip = 2
	key := []byte("apiVersion:")
	for start := 0; ; {
		at := bytes.Index(f.Body[start:], key)
		if at < 0 {
			return
		}
		at += start
		start = at + len(key)
		rest := bytes.TrimLeft(f.Body[start:min(len(f.Body), start+64)], " \"'")
		slash := bytes.IndexByte(rest, '/')
		if slash < len(Group)-slip || slash > len(Group)+slip || string(rest[:slash]) == Group {
			continue
		}
		line := bytes.LastIndexByte(f.Body[:at], '\n') + 1
		if len(bytes.TrimSpace(f.Body[line:at])) > 0 || otelconf.EditDistance(string(rest[:slash]), Group) > slip {
			continue // in a comment or a text, or of somebody else
		}
		p.add(f.Path, bytes.Count(f.Body[:at], []byte{'\n'})+1, at-line+1, "version",
			"the group %q is none of ours: did you mean %s?", string(rest[:slash]), APIVersion)
		return
	}
}

// document reads one document if it is ours.
func (p *parser) document(file string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		return
	}
	version, kind := lookup(n, "apiVersion"), lookup(n, "kind")
	d := &decoder{file: file}
	defer func() { p.problems = append(p.problems, d.problems...) }()
	switch {
	case version == nil && kind != nil && slices.Contains(kinds(), kind.Value):
		d.add(n, "version", "a %s without apiVersion: %s", kind.Value, APIVersion)
		return
	case version == nil || group(version.Value) != Group:
		return
	case version.Value != APIVersion:
		d.add(version, "version", "apiVersion must be %s, not %q", APIVersion, short(version.Value))
		return
	case kind == nil:
		d.add(n, "field", "a manifest needs the field %q", "kind")
		return
	}
	switch kind.Value {
	case KindSelector:
		p.selectorManifest(d, n)
	case KindRollout:
		p.rolloutManifest(d, n)
	case KindLabels:
		p.labelsManifest(d, n)
	default:
		d.add(kind, "kind", "kind is one of %s, not %q%s", strings.Join(kinds(), ", "), short(kind.Value), otelconf.DidYouMean(kind.Value, kinds()...))
	}
}

func kinds() []string { return []string{KindSelector, KindRollout, KindLabels} }

func group(version string) string {
	g, _, _ := strings.Cut(version, "/")
	return g
}

// lookup returns the scalar of a key of a map, or nil.
func lookup(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if plain(n.Content[i]).Value == key {
			if v := plain(n.Content[i+1]); v.Kind == yaml.ScalarNode {
				return v
			}
		}
	}
	return nil
}

// manifest reads what all kinds have in common and hands the spec on. The name is
// "" when it has a problem.
func (d *decoder) manifest(n *yaml.Node, kind string, nameRequired bool, spec func(name string, n *yaml.Node)) {
	name, body := "", (*yaml.Node)(nil)
	ignore := func(*yaml.Node) {} // looked at before
	d.object(n, "a "+kind,
		field{name: "apiVersion", read: ignore},
		field{name: "kind", read: ignore},
		field{name: "metadata", required: nameRequired, read: func(n *yaml.Node) {
			d.object(n, "metadata", field{name: "name", required: true, read: func(n *yaml.Node) {
				if s, ok := d.name(n, "metadata.name"); ok {
					name = s
				}
			}})
		}},
		field{name: "spec", required: true, read: func(n *yaml.Node) { body = n }})
	if body != nil {
		spec(name, body)
	}
}

func (p *parser) selectorManifest(d *decoder, n *yaml.Node) {
	d.manifest(n, KindSelector, true, func(name string, spec *yaml.Node) {
		s := d.selector(spec)
		if name == "" {
			return
		}
		if first := p.selectors[name]; first != nil {
			d.add(n, "duplicate", "the Selector %q is already declared in %s:%d", name, first.file, first.line)
			return
		}
		p.selectors[name] = &named{file: d.file, line: n.Line, selector: s}
	})
}

func (p *parser) labelsManifest(d *decoder, n *yaml.Node) {
	d.manifest(n, KindLabels, false, func(name string, spec *yaml.Node) {
		if name != "" {
			if first := p.labels[name]; first != nil {
				d.add(n, "duplicate", "the Labels %q are already declared in %s:%d", name, first.file, first.line)
				return
			}
			p.labels[name] = &named{file: d.file, line: n.Line}
		}
		for _, item := range d.list(spec, "spec") {
			before := d.errors
			rule := LabelRule{File: d.file, Line: item.Line}
			d.object(item, "a label rule",
				field{name: "match", required: true, read: func(n *yaml.Node) {
					if rule.Match = d.labels(n, "match"); rule.Match != nil && len(rule.Match) == 0 && d.errors == before {
						d.add(n, "value", "match must name a label: it would match every agent")
					}
				}},
				field{name: "set", required: true, read: func(n *yaml.Node) {
					if rule.Set = d.labels(n, "set"); rule.Set != nil && len(rule.Set) == 0 && d.errors == before {
						d.add(n, "value", "set must name a label")
					}
				}})
			if d.errors == before {
				p.rules = append(p.rules, rule)
			}
		}
	})
}

// finish resolves what refers to each other and builds the Set.
func (p *parser) finish(revision fleet.Revision) *Set {
	set := &Set{Revision: revision, Labels: p.rules}
	slices.SortStableFunc(set.Labels, func(a, b LabelRule) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	for _, d := range p.rollouts {
		set.Rollouts = append(set.Rollouts, d.rollout)
	}
	slices.SortFunc(set.Rollouts, func(a, b *Rollout) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range set.Rollouts {
		p.resolve(p.rollouts[r.Name])
	}
	if len(set.Rollouts) > p.opts.Limits.Rollouts {
		p.add("", 0, 0, "limit", "%d Rollouts, more than the limit of %d", len(set.Rollouts), p.opts.Limits.Rollouts)
	}
	if len(set.Rollouts) == 0 && !p.opts.AllowEmpty && !otelconf.Failed(p.problems) {
		p.add("", 0, 0, "empty", "the revision declares no Rollout (--allow-empty accepts that)")
	}
	return set
}

// cut keeps the first problems, errors before warnings where there are too many.
func (p *parser) cut(problems []Problem) []Problem {
	most := p.opts.Limits.Problems
	if len(problems) <= most {
		return problems
	}
	kept := slices.Clone(problems)
	slices.SortStableFunc(kept, func(a, b Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	rest := kept[most:]
	kept = otelconf.SortProblems(kept[:most:most])
	return append(kept, Problem{Rule: "limit", Severity: rest[0].Severity, Message: fmt.Sprintf("%d more problems are not listed", len(rest))})
}
