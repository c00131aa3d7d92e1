package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// The subjects of the records; the package comment says what each holds.
const (
	subjectID       = "ctl.id"
	subjectEpoch    = "ctl.epoch"
	subjectBeat     = "ctl.beat"
	subjectTxn      = "ctl.txn"
	subjectManifest = "ctl.manifest"
	prefixRoll      = "ctl.roll."
	prefixLedger    = "ctl.ledger."
	prefixBase      = "ctl.base."
	prefixDelta     = "ctl.delta."
)

// ErrCorrupt says that what was read is not what was written. It is never healed
// silently: nothing is decided on such records.
var ErrCorrupt = errors.New("the store is damaged")

// sum is a digest of one record, or of a set of them: the digests of a set are
// combined with XOR, so that a commit costs what it changes.
type sum [16]byte

func (s sum) plus(o sum) sum {
	for i := range s {
		s[i] ^= o[i]
	}
	return s
}

// MarshalText implements [encoding.TextMarshaler].
func (s sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *sum) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(s) {
		return errors.New("not a digest")
	}
	_, err := hex.Decode(s[:], text)
	return err
}

const sealSize = 4

// castagnoli returns the table of the CRC that guards every record; crc32 keeps
// one copy of it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// seal returns body as it is stored under a subject: behind a CRC-32C of both.
func seal(subject string, body []byte) []byte {
	sealed := make([]byte, sealSize, sealSize+len(body))
	binary.BigEndian.PutUint32(sealed, checksum(subject, body))
	return append(sealed, body...)
}

func checksum(subject string, body []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(subject), castagnoli()), castagnoli(), body)
}

// unseal returns the body of what [seal] returned.
func unseal(subject string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealSize || binary.BigEndian.Uint32(sealed) != checksum(subject, sealed[sealSize:]) {
		return nil, fmt.Errorf("%w: record %s does not match its checksum", ErrCorrupt, subject)
	}
	return sealed[sealSize:], nil
}

// sumOf returns the digest of one record.
func sumOf(subject string, sealed []byte) (s sum) {
	h := sha256.New()
	h.Write([]byte(subject))
	h.Write([]byte{0})
	h.Write(sealed)
	copy(s[:], h.Sum(nil))
	return s
}

// token writes a rollout's name as one token of a subject: letters, digits, "-" and
// "_" stand for themselves, any other byte becomes "=" and two hexadecimal digits.
// Different names have different tokens, and none is empty.
func token(name string) string {
	if name == "" {
		return "="
	}
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02x", c)
		}
	}
	return b.String()
}

func baseSubject(tok string, gen, chunk uint64) string {
	return fmt.Sprintf("%s%s.%d.%d", prefixBase, tok, gen, chunk)
}

func deltaSubject(tok string, n uint64) string { return fmt.Sprintf("%s%s.%d", prefixDelta, tok, n) }

// message is one record to be stored, sealed.
type message struct {
	subject string
	sealed  []byte
}

func newMessage(subject string, body []byte) message { return message{subject, seal(subject, body)} }

func (m message) sum() sum { return sumOf(m.subject, m.sealed) }
