package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/bellwether-opamp/bellwether/internal/fleet"
	"github.com/bellwether-opamp/bellwether/rollout"
)

const (
	chunkBytes = 512 << 10 // a message is cut when it has grown past this
	deltaCost  = 2 << 10   // what a small delta costs at least: a subject, an index entry, a read when loading
	baseCost   = 256 << 10 // what a small base costs at least
)

// extent says which records make up a ledger: the base of one generation, and the
// deltas from First up to but not including Next, applied in order.
type extent struct {
	Gen     uint64 `json:"gen"`
	Chunks  uint64 `json:"chunks"`
	First   uint64 `json:"first"`
	Next    uint64 `json:"next"`
	Entries int    `json:"entries"`
}

// held is the records of one rollout. It is never changed once made.
type held struct {
	state  rollout.State
	header []byte // body of the header record
	extent extent

	headerSum, extentSum, ledgerSum sum

	base   int // bytes of the base
	weight int // of the deltas, none counted below deltaCost
}

// count returns how many records count for the rollout.
func (h *held) count() int {
	return 2 + int(h.extent.Chunks) + int(h.extent.Next-h.extent.First)
}

func (h *held) sum() sum { return h.headerSum.plus(h.extentSum).plus(h.ledgerSum) }

// encode returns the records of next and what must be written to get there from
// old, which is nil for a new rollout. If nothing changed it returns old. fresh is a
// number that no earlier commit was given: with it no base or delta has the subject
// of an earlier one.
func encode(old *held, next rollout.State, fresh uint64) (*held, []message, error) {
	if !utf8.ValidString(next.Name) {
		return nil, nil, fmt.Errorf("encode rollout %q: its name is not UTF-8", next.Name)
	}
	tok := token(next.Name)
	header, err := json.Marshal(next)
	if err != nil {
		return nil, nil, fmt.Errorf("encode rollout %q: %w", next.Name, err)
	}
	h := &held{}
	if old != nil {
		*h = *old
	}
	h.state, h.header = next, header
	var out []message
	if old == nil || string(old.header) != string(header) {
		m := newMessage(prefixRoll+tok, header)
		h.headerSum = m.sum()
		out = append(out, m)
	}
	ledger := encodeLedger(h, old, next.Ledger, tok, fresh)
	if old == nil || h.extent != old.extent {
		body, err := json.Marshal(h.extent)
		if err != nil {
			return nil, nil, fmt.Errorf("encode rollout %q: %w", next.Name, err)
		}
		m := newMessage(prefixLedger+tok, body)
		h.extentSum = m.sum()
		out = append(append(out, m), ledger...)
	}
	if len(out) == 0 {
		return old, nil, nil
	}
	return h, out, nil
}

// encodeLedger brings h, a copy of old, to the ledger next: by deltas as long as
// they weigh less than a base.
func encodeLedger(h, old *held, next rollout.Ledger, tok string, fresh uint64) []message {
	if old != nil {
		changed, removed := next.Changes(old.state.Ledger)
		if len(changed)+len(removed) == 0 {
			return nil
		}
		bodies := packDeltas(changed, removed)
		weight := old.weight
		for _, b := range bodies {
			weight += max(len(b)+sealSize, deltaCost)
		}
		if weight <= max(old.base, baseCost) {
			var out []message
			for _, b := range bodies {
				m := newMessage(deltaSubject(tok, h.extent.Next), b)
				h.ledgerSum = h.ledgerSum.plus(m.sum())
				h.extent.Next++
				out = append(out, m)
			}
			h.extent.Entries, h.weight = next.Len(), weight
			return out
		}
	}
	first := max(h.extent.Next, fresh)
	h.extent = extent{Gen: fresh, First: first, Next: first, Entries: next.Len()}
	h.ledgerSum, h.base, h.weight = sum{}, 0, 0
	var out []message
	for _, b := range packBase(next) {
		m := newMessage(baseSubject(tok, h.extent.Gen, h.extent.Chunks), b)
		h.ledgerSum = h.ledgerSum.plus(m.sum())
		h.base += len(m.sealed)
		h.extent.Chunks++
		out = append(out, m)
	}
	return out
}

func packBase(l rollout.Ledger) (bodies [][]byte) {
	var b []byte
	for e := range l.All() {
		b = rollout.AppendEntry(b, *e)
		if len(b) >= chunkBytes {
			bodies, b = append(bodies, b), nil
		}
	}
	if len(b) > 0 {
		bodies = append(bodies, b)
	}
	return bodies
}

// packDeltas writes changes as one body or, when they are many, several, each
// complete: the number of entries, the entries, then the removed agents to the end.
func packDeltas(changed []rollout.Entry, removed []fleet.AgentID) (bodies [][]byte) {
	for len(changed)+len(removed) > 0 {
		var entries []byte
		n := 0
		for n < len(changed) && len(entries) < chunkBytes {
			entries = rollout.AppendEntry(entries, changed[n])
			n++
		}
		b := append(binary.AppendUvarint(nil, uint64(n)), entries...)
		changed = changed[n:]
		for len(removed) > 0 && len(changed) == 0 && len(b) < chunkBytes {
			b = append(b, removed[0][:]...)
			removed = removed[1:]
		}
		bodies = append(bodies, b)
	}
	return bodies
}

// found is a record as it was read, its checksum verified.
type found struct {
	body []byte
	sum  sum
}

// decode returns the records of one rollout from what was read, on top of old,
// which is nil when nothing is known. It is nil when the rollout is gone.
func decode(tok string, old *held, read map[string]found) (*held, error) {
	h := &held{}
	if old != nil {
		*h = *old
	}
	if r, ok := read[prefixRoll+tok]; ok {
		if len(r.body) == 0 {
			return nil, nil
		}
		var state rollout.State
		if err := json.Unmarshal(r.body, &state); err != nil {
			return nil, fmt.Errorf("%w: header of %s: %v", ErrCorrupt, tok, err)
		}
		if token(state.Name) != tok {
			return nil, fmt.Errorf("%w: header of %s names %q", ErrCorrupt, tok, state.Name)
		}
		state.Ledger = h.state.Ledger
		h.state, h.header, h.headerSum = state, r.body, r.sum
	}
	if r, ok := read[prefixLedger+tok]; ok {
		var ext extent
		if err := json.Unmarshal(r.body, &ext); err != nil {
			return nil, fmt.Errorf("%w: extent of %s: %v", ErrCorrupt, tok, err)
		}
		h.extentSum = r.sum
		if err := decodeLedger(h, ext, tok, read); err != nil {
			return nil, err
		}
	}
	if h.header == nil || h.extent.Gen == 0 {
		return nil, fmt.Errorf("%w: rollout %s is not whole", ErrCorrupt, tok)
	}
	return h, nil
}

func decodeLedger(h *held, ext extent, tok string, read map[string]found) error {
	from := h.extent.Next
	if h.extent.Gen != ext.Gen || h.extent.First != ext.First || ext.Next < from {
		var entries []rollout.Entry
		h.base, h.weight, h.ledgerSum, from = 0, 0, sum{}, ext.First
		for i := range ext.Chunks {
			r, ok := read[baseSubject(tok, ext.Gen, i)]
			if !ok {
				return fmt.Errorf("%w: part %d of ledger %s is missing", ErrCorrupt, i, tok)
			}
			h.base += len(r.body) + sealSize
			h.ledgerSum = h.ledgerSum.plus(r.sum)
			part, err := unpackEntries(r.body)
			if err != nil {
				return fmt.Errorf("%w: ledger %s: %v", ErrCorrupt, tok, err)
			}
			entries = append(entries, part...)
		}
		h.state.Ledger = rollout.LedgerOf(entries)
	}
	edit := h.state.Ledger.Edit()
	for n := from; n < ext.Next; n++ {
		r, ok := read[deltaSubject(tok, n)]
		if !ok {
			return fmt.Errorf("%w: delta %d of ledger %s is missing", ErrCorrupt, n, tok)
		}
		h.weight += max(len(r.body)+sealSize, deltaCost)
		h.ledgerSum = h.ledgerSum.plus(r.sum)
		if err := applyDelta(edit, r.body); err != nil {
			return fmt.Errorf("%w: delta %d of ledger %s: %v", ErrCorrupt, n, tok, err)
		}
	}
	h.state.Ledger, h.extent = edit.Ledger(), ext
	if got := h.state.Ledger.Len(); got != ext.Entries {
		return fmt.Errorf("%w: ledger %s has %d entries, not %d", ErrCorrupt, tok, got, ext.Entries)
	}
	return nil
}

func applyDelta(edit *rollout.Editor, body []byte) error {
	n, size := binary.Uvarint(body)
	if size <= 0 {
		return rollout.ErrEntry
	}
	body = body[size:]
	for range n {
		e, rest, err := rollout.DecodeEntry(body)
		if err != nil {
			return err
		}
		edit.Put(e)
		body = rest
	}
	for ; len(body) > 0; body = body[len(fleet.AgentID{}):] {
		if len(body) < len(fleet.AgentID{}) {
			return rollout.ErrEntry
		}
		edit.Remove(fleet.AgentID(body[:len(fleet.AgentID{})]))
	}
	return nil
}
