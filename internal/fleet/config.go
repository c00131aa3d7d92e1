package fleet

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Hash is the SHA-256 of something; the zero value means "none".
type Hash [sha256.Size]byte

// IsZero reports whether h names nothing.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns 64 hexadecimal digits, or "" for the zero value.
func (h Hash) String() string {
	if h.IsZero() {
		return ""
	}
	return hex.EncodeToString(h[:])
}

// Short returns the first 12 digits, for people.
func (h Hash) Short() string {
	if h.IsZero() {
		return ""
	}
	return hex.EncodeToString(h[:6])
}

// ErrHash says that a text is not a [Hash].
var ErrHash = errors.New("not a config hash: want 64 hexadecimal digits")

// ParseHash reads what [Hash.String] writes; "" is the zero value.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if s == "" {
		return h, nil
	}
	if len(s) != 2*len(h) {
		return h, ErrHash
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, ErrHash
	}
	return h, nil
}

// MarshalText implements [encoding.TextMarshaler] with [Hash.String].
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler] with [ParseHash].
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

// File is one file of a [Config]: one entry of the protocol's config map.
type File struct {
	Name        string
	ContentType string
	Body        []byte
}

// Config is the complete set of files an agent should run, sorted by name. Make
// one with [NewConfig]. Bodies are shared, never changed.
type Config struct {
	Files []File
	Hash  Hash
}

// NewConfig sorts the files by name and computes the identity: SHA-256 over
// (name, content type, body) of each, every part preceded by its length as eight
// big-endian bytes. Names must be unique; what git revision the files came from
// is no part of it.
func NewConfig(files ...File) Config {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	sum := sha256.New()
	var size [8]byte
	part := func(p []byte) {
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		sum.Write(size[:])
		sum.Write(p)
	}
	for _, f := range files {
		part([]byte(f.Name))
		part([]byte(f.ContentType))
		part(f.Body)
	}
	return Config{Files: files, Hash: Hash(sum.Sum(nil))}
}

// Size returns the length of all bodies in bytes.
func (c Config) Size() int {
	n := 0
	for _, f := range c.Files {
		n += len(f.Body)
	}
	return n
}

// Delivery names one act of offering a config to an agent: the config, and an
// attempt that grows when the same content has to be judged afresh (a retry). It
// is what goes over the wire as config_hash, which is opaque to agents and
// echoed by them. The zero value means "none".
type Delivery struct {
	Config  Hash
	Attempt uint32
}

// IsZero reports whether d names no config.
func (d Delivery) IsZero() bool { return d.Config.IsZero() }

// String returns the hash, followed by "#n" for attempts above zero.
func (d Delivery) String() string {
	if d.Attempt == 0 {
		return d.Config.String()
	}
	return fmt.Sprintf("%s#%d", d.Config, d.Attempt)
}

// Short returns the form for people: 12 digits, and "#n" for attempts above zero.
func (d Delivery) Short() string {
	if d.Attempt == 0 {
		return d.Config.Short()
	}
	return fmt.Sprintf("%s#%d", d.Config.Short(), d.Attempt)
}

// Wire returns the bytes of AgentRemoteConfig.config_hash: the 32 bytes of the
// hash, and the attempt as four big-endian bytes when it is not zero.
func (d Delivery) Wire() []byte {
	b := slices.Clone(d.Config[:])
	if d.Attempt != 0 {
		b = binary.BigEndian.AppendUint32(b, d.Attempt)
	}
	return b
}

// ParseWire reads what [Delivery.Wire] wrote. It is false for bytes that no
// delivery of ours has.
func ParseWire(b []byte) (Delivery, bool) {
	var d Delivery
	switch len(b) {
	case len(d.Config):
	case len(d.Config) + 4:
		if d.Attempt = binary.BigEndian.Uint32(b[len(d.Config):]); d.Attempt == 0 {
			return Delivery{}, false
		}
	default:
		return Delivery{}, false
	}
	copy(d.Config[:], b)
	return d, !d.Config.IsZero()
}

// Offer is a config sent to one agent to accept. Offers are complete: the newest
// one is all that matters, and losing one is harmless.
type Offer struct {
	Agent    AgentID
	Delivery Delivery
	At       time.Time // when it was decided: what was decided anew is sent anew
}
