package store

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bellwether-opamp/bellwether/reconciler"
	"github.com/bellwether-opamp/bellwether/rollout"
)

// manifest is the last record of each commit: how many records count, and what
// they are.
type manifest struct {
	Txn   string `json:"txn"`
	Count int    `json:"count"`
	Sum   sum    `json:"sum"`
}

// txn is the first record of each commit.
type txn struct {
	ID    string `json:"id"`
	Epoch uint64 `json:"epoch"`
}

// beat is the record of the watch being kept.
type beat struct {
	Watched time.Time `json:"watched"`
}

// mirror is all records as of one commit. It is never changed once made.
type mirror struct {
	revision uint64 // sequence of the manifest; 0: nothing was ever committed
	manifest manifest
	rollouts map[string]*held // by token
	watched  time.Time
}

// state returns what the records say.
func (m *mirror) state() reconciler.State {
	s := reconciler.State{Watched: m.watched}
	for _, h := range m.rollouts {
		s.Rollouts = append(s.Rollouts, h.state)
	}
	slices.SortFunc(s.Rollouts, func(a, b rollout.State) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// seen returns m with another time of watching.
func (m *mirror) seen(watched time.Time) *mirror {
	if m.watched.Equal(watched) {
		return m
	}
	later := *m
	later.watched = watched
	return &later
}

// tally computes what the manifest must say.
func (m *mirror) tally() (count int, total sum) {
	for _, h := range m.rollouts {
		count += h.count()
		total = total.plus(h.sum())
	}
	return count, total
}

// verify compares the records with the manifest.
func (m *mirror) verify() error {
	count, total := m.tally()
	if count != m.manifest.Count || total != m.manifest.Sum {
		return fmt.Errorf("%w: %d records with digest %x, the manifest says %d with %x",
			ErrCorrupt, count, total, m.manifest.Count, m.manifest.Sum)
	}
	return nil
}

// refuse is what no longer counts after a commit: the records that match subject
// and have a sequence less than before.
type refuse struct {
	subject string
	before  uint64 // set once the commit is stored
}

// change is a commit to be: the records after it, and what to write.
type change struct {
	next       *mirror // its revision is set once it is stored
	messages   []message
	refuse     []refuse
	transition bool // some rollout's phase changed
}

// diff returns the change that leads from m to next, or nil if they say the same.
// The time of watching alone is no change, and never goes back. With force there is
// always a change, if only of the commit itself.
func (m *mirror) diff(next reconciler.State, id string, epoch uint64, force bool) (*change, error) {
	to := &mirror{rollouts: cloned(m.rollouts), watched: m.watched}
	c := &change{next: to}
	wanted := make(map[string]bool, len(next.Rollouts))
	for _, r := range next.Rollouts {
		tok := token(r.Name)
		if wanted[tok] {
			return nil, fmt.Errorf("two rollouts are named %q", r.Name)
		}
		wanted[tok] = true
		old := m.rollouts[tok]
		h, out, err := encode(old, r, m.revision+1)
		if err != nil {
			return nil, err
		}
		to.rollouts[tok] = h
		c.messages = append(c.messages, out...)
		switch {
		case old == nil:
			c.transition = true
		case old.extent.Gen != h.extent.Gen:
			c.refuse = append(c.refuse,
				refuse{subject: fmt.Sprintf("%s%s.%d.>", prefixBase, tok, old.extent.Gen)},
				refuse{subject: prefixDelta + tok + ".>"})
		}
		c.transition = c.transition || old != nil && old.state.Phase != h.state.Phase
	}
	for _, tok := range slices.Sorted(maps.Keys(m.rollouts)) {
		if wanted[tok] {
			continue
		}
		delete(to.rollouts, tok)
		c.messages = append(c.messages, newMessage(prefixRoll+tok, nil))
		c.transition = true
		c.refuse = append(c.refuse, gone(tok)...)
	}
	if len(c.messages) == 0 && !force {
		return nil, nil
	}
	return c, c.frame(next.Watched, id, epoch)
}

// gone is the refuse of a rollout that was removed. Its header and extent stay, the
// header empty: where a record was written several times and the last is taken
// out, the engine may come up after a crash with the one before.
func gone(tok string) []refuse {
	return []refuse{{subject: prefixBase + tok + ".>"}, {subject: prefixDelta + tok + ".>"}}
}

// frame puts the records around the messages that every commit has.
func (c *change) frame(watched time.Time, id string, epoch uint64) error {
	to := c.next
	opening, err := json.Marshal(txn{ID: id, Epoch: epoch})
	if err != nil {
		return err
	}
	c.messages = slices.Insert(c.messages, 0, newMessage(subjectTxn, opening))
	if watched.After(to.watched) {
		body, err := json.Marshal(beat{watched})
		if err != nil {
			return err
		}
		to.watched = watched
		c.messages = append(c.messages, newMessage(subjectBeat, body))
	}
	to.manifest.Txn = id
	to.manifest.Count, to.manifest.Sum = to.tally()
	closing, err := json.Marshal(to.manifest)
	if err != nil {
		return err
	}
	c.messages = append(c.messages, newMessage(subjectManifest, closing))
	return nil
}

// apply returns m with the records that were read on top, and the time and
// manifest they were read with.
func (m *mirror) apply(read map[string]found) (*mirror, error) {
	to := &mirror{rollouts: cloned(m.rollouts)}
	touched := map[string]bool{}
	for subject := range read {
		for _, prefix := range []string{prefixRoll, prefixLedger} {
			if tok, ok := strings.CutPrefix(subject, prefix); ok {
				touched[tok] = true
			}
		}
	}
	for tok := range touched {
		if _, isRollout := read[prefixRoll+tok]; !isRollout && m.rollouts[tok] == nil {
			continue // an extent without a header: its removal was cut short
		}
		h, err := decode(tok, m.rollouts[tok], read)
		if err != nil {
			return nil, err
		}
		if h == nil {
			delete(to.rollouts, tok)
			continue
		}
		to.rollouts[tok] = h
	}
	return to, nil
}

// counts reports whether a record is no refuse: every base and delta is that does
// not belong to a rollout's extent.
func (m *mirror) counts(subject string) bool {
	part := strings.Split(subject, ".")
	if len(part) < 4 {
		return true
	}
	h := m.rollouts[part[2]]
	if h == nil {
		return false
	}
	switch part[1] {
	case "base":
		n, err := strconv.ParseUint(part[len(part)-1], 10, 64)
		return err == nil && part[3] == strconv.FormatUint(h.extent.Gen, 10) && n < h.extent.Chunks
	case "delta":
		n, err := strconv.ParseUint(part[len(part)-1], 10, 64)
		return err == nil && n >= h.extent.First && n < h.extent.Next
	}
	return true
}

func cloned(m map[string]*held) map[string]*held {
	if m == nil {
		return map[string]*held{}
	}
	return maps.Clone(m)
}
