package rollout

import (
	"iter"
	"slices"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
)

// Ledger is an immutable set of entries, sorted by agent. Copies are cheap: two
// ledgers share every chunk in which they do not differ, so that a tick that
// changes 3 of 100,000 agents copies three chunks, and [Ledger.Changes] finds the
// three without looking at the others.
type Ledger struct {
	chunks [][]Entry // each sorted, none empty, all in order
	n      int
}

// chunkSize is how many entries a fresh chunk has; one that grows past twice
// this is split.
const chunkSize = 128

// LedgerOf returns a ledger of the entries, which must have distinct agents. It
// keeps no reference to the slice.
func LedgerOf(entries []Entry) Ledger {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b Entry) int { return a.Agent.Compare(b.Agent) })
	return ledgerOfSorted(sorted)
}

// ledgerOfSorted returns a ledger of entries in the order of agents, and keeps
// the slice: the caller must not touch it again.
func ledgerOfSorted(sorted []Entry) Ledger {
	l := Ledger{n: len(sorted), chunks: make([][]Entry, 0, (len(sorted)+chunkSize-1)/chunkSize)}
	for chunk := range slices.Chunk(sorted, chunkSize) {
		l.chunks = append(l.chunks, slices.Clip(chunk))
	}
	return l
}

// Len returns the number of entries.
func (l Ledger) Len() int { return l.n }

// Get returns the entry of one agent.
func (l Ledger) Get(id fleet.AgentID) (Entry, bool) {
	c, i, ok := l.find(id)
	if !ok {
		return Entry{}, false
	}
	return l.chunks[c][i], true
}

// All yields every entry in the order of agents. The pointers are into the
// ledger: read only.
func (l Ledger) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, chunk := range l.chunks {
			for i := range chunk {
				if !yield(&chunk[i]) {
					return
				}
			}
		}
	}
}

// find returns where id is, or where it would go.
func (l Ledger) find(id fleet.AgentID) (chunk, index int, ok bool) {
	chunk, _ = slices.BinarySearchFunc(l.chunks, id, func(c []Entry, id fleet.AgentID) int {
		return c[len(c)-1].Agent.Compare(id)
	})
	if chunk == len(l.chunks) {
		return chunk, 0, false
	}
	index, ok = slices.BinarySearchFunc(l.chunks[chunk], id, func(e Entry, id fleet.AgentID) int {
		return e.Agent.Compare(id)
	})
	return chunk, index, ok
}

// Changes returns what turns old into l: entries that are new or differ, and
// agents that are gone, both sorted. Apply(old, Changes(old)) equals l. It costs
// the entries of the chunks that are not shared.
func (l Ledger) Changes(old Ledger) (changed []Entry, removed []fleet.AgentID) {
	shared := make(map[*Entry]int, len(old.chunks)) // first entry of a chunk -> its length
	for _, c := range old.chunks {
		shared[&c[0]] = len(c)
	}
	kept := make(map[*Entry]bool, len(l.chunks))
	for _, c := range l.chunks {
		if shared[&c[0]] == len(c) {
			kept[&c[0]] = true
			continue
		}
		for _, e := range c {
			if was, ok := old.Get(e.Agent); !ok || was != e {
				changed = append(changed, e)
			}
		}
	}
	for _, c := range old.chunks {
		if kept[&c[0]] {
			continue
		}
		for _, e := range c {
			if _, ok := l.Get(e.Agent); !ok {
				removed = append(removed, e.Agent)
			}
		}
	}
	return changed, removed
}

// Apply returns l with the entries put in and the agents taken out. Neither list
// needs to be sorted; an agent in both is put in.
func (l Ledger) Apply(changed []Entry, removed []fleet.AgentID) Ledger {
	if len(changed) == 0 && len(removed) == 0 {
		return l
	}
	edit := l.Edit()
	for _, id := range removed {
		edit.Remove(id)
	}
	for _, e := range changed {
		edit.Put(e)
	}
	return edit.Ledger()
}

// Edit returns an editor that starts at l. Nothing it does is seen through l.
func (l Ledger) Edit() *Editor { return &Editor{ledger: l} }

// Editor collects changes to a [Ledger], copying a chunk when it is first
// written. It belongs to one goroutine, and to one call of [Step].
type Editor struct {
	ledger Ledger
	owned  []bool // by chunk: ours to write; nil until the first write
	isOurs bool   // the outer slice is ours
}

// Get returns the entry of one agent as the editor sees it.
func (e *Editor) Get(id fleet.AgentID) (Entry, bool) { return e.ledger.Get(id) }

// All yields every entry as the editor sees it. A Put of an agent that is already
// there is allowed while ranging; Remove and a Put of a new agent are not.
func (e *Editor) All() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for c := range e.ledger.chunks {
			for i := range e.ledger.chunks[c] {
				if !yield(&e.ledger.chunks[c][i]) {
					return
				}
			}
		}
	}
}

// Put writes an entry. One that equals what is there costs nothing.
func (e *Editor) Put(entry Entry) {
	c, i, ok := e.ledger.find(entry.Agent)
	if ok {
		if e.ledger.chunks[c][i] != entry {
			e.own(c)
			e.ledger.chunks[c][i] = entry
		}
		return
	}
	e.ledger.n++
	if len(e.ledger.chunks) == 0 {
		e.outer()
		e.ledger.chunks, e.owned = [][]Entry{{entry}}, []bool{true}
		return
	}
	if c == len(e.ledger.chunks) { // after the last
		c--
		i = len(e.ledger.chunks[c])
	}
	e.own(c)
	e.ledger.chunks[c] = slices.Insert(e.ledger.chunks[c], i, entry)
	if len(e.ledger.chunks[c]) > 2*chunkSize {
		e.split(c)
	}
}

// Remove takes an agent out; one that is not there is no error.
func (e *Editor) Remove(id fleet.AgentID) {
	c, i, ok := e.ledger.find(id)
	if !ok {
		return
	}
	e.ledger.n--
	e.own(c)
	e.ledger.chunks[c] = slices.Delete(e.ledger.chunks[c], i, i+1)
	if len(e.ledger.chunks[c]) == 0 {
		e.ledger.chunks = slices.Delete(e.ledger.chunks, c, c+1)
		e.owned = slices.Delete(e.owned, c, c+1)
	}
}

// Ledger returns the result. The editor must not be used afterwards.
func (e *Editor) Ledger() Ledger { return e.ledger }

func (e *Editor) outer() {
	if !e.isOurs {
		e.ledger.chunks = slices.Clone(e.ledger.chunks)
		e.owned = make([]bool, len(e.ledger.chunks))
		e.isOurs = true
	}
}

func (e *Editor) own(c int) {
	e.outer()
	if !e.owned[c] {
		e.ledger.chunks[c] = slices.Clone(e.ledger.chunks[c])
		e.owned[c] = true
	}
}

func (e *Editor) split(c int) {
	chunk := e.ledger.chunks[c]
	half := len(chunk) / 2
	right := slices.Clone(chunk[half:])
	e.ledger.chunks[c] = slices.Clip(chunk[:half])
	e.ledger.chunks = slices.Insert(e.ledger.chunks, c+1, right)
	e.owned = slices.Insert(e.owned, c+1, true)
}
