package gitsource

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecretFile is larger than any key, token or list of known hosts.
const maxSecretFile = 1 << 20

// readFile reads a small file of the operator's; what names it in errors.
func readFile(what, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the %s: %w", what, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the %s: %w", what, err)
	}
	if len(b) > maxSecretFile {
		return nil, fmt.Errorf("reading the %s %s: more than %d bytes", what, name, maxSecretFile)
	}
	return b, nil
}

// readSecret reads one line of text.
func readSecret(what, name string) (string, error) {
	b, err := readFile(what, name)
	if err != nil {
		return "", err
	}
	text := string(bytes.TrimRight(b, "\r\n"))
	if text == "" {
		return "", fmt.Errorf("the %s %s is empty", what, name)
	}
	if strings.ContainsAny(text, "\r\n\x00") {
		return "", fmt.Errorf("the %s %s has more than one line", what, name)
	}
	return text, nil
}

// login is what goes into a basic Authorization header. The zero value sends none.
type login struct{ user, password string }

// tokenUser goes with a token when no user is named; every forge we know of
// looks at the password alone.
const tokenUser = "x-access-token"

// login reads the files of the configuration, each time anew: a rotated secret
// is used by the next request.
func (c *Config) login() (login, error) {
	user := c.Username
	switch {
	case c.TokenFile != "":
		token, err := readSecret("token file", c.TokenFile)
		if user == "" {
			user = tokenUser
		}
		return login{user, token}, err
	case c.PasswordFile != "":
		password, err := readSecret("password file", c.PasswordFile)
		return login{user, password}, err
	}
	return login{}, nil
}

// redact removes the password, in the forms a server could echo, from text.
func (l login) redact(text string) string {
	if l.password == "" {
		return text
	}
	for _, form := range []string{
		base64.StdEncoding.EncodeToString([]byte(l.user + ":" + l.password)), l.password,
	} {
		text = strings.ReplaceAll(text, form, "***")
	}
	return text
}

// checkLogin finds mistakes of the configuration that would only show later.
func (c *Config) checkLogin(l location) error {
	if c.PasswordFile != "" && c.TokenFile != "" {
		return errors.New("both a password file and a token file are given: use one of them")
	}
	if c.PasswordFile == "" && c.TokenFile == "" {
		return nil
	}
	if l.protocol != overHTTP {
		return errors.New("a password or token file is of no use without an http(s) URL")
	}
	if c.PasswordFile != "" && c.Username == "" {
		return errors.New("a password file needs a user name")
	}
	if !l.secure && !l.loopback() && !c.InsecureHTTP {
		return fmt.Errorf("refusing to send credentials to %s over plain http: use https", l.host)
	}
	_, err := c.login()
	return err
}
