// SPDX-License-Identifier: Apache-2.0

// Package mac has the type for Ethernet addresses. It is comparable, so it keys a map, and it imports neither net nor
// encoding packages: nsproc pays for each of its imports when it starts.
package mac

import "fmt"

// Address is an Ethernet (MAC-48) address. The zero Address stands for none.
type Address [6]byte

// Parse parses the colon form of an address, such as 02:42:0a:20:00:05, in either case.
func Parse(s string) (Address, error) {
	var a Address
	if len(s) != len("00:00:00:00:00:00") {
		return Address{}, invalid(s)
	}
	for i := range a {
		high, ok1 := digit(s[3*i])
		low, ok2 := digit(s[3*i+1])
		if !ok1 || !ok2 || i > 0 && s[3*i-1] != ':' {
			return Address{}, invalid(s)
		}
		a[i] = high<<4 | low
	}
	return a, nil
}

// MustParse is Parse for addresses that are known to be valid; it panics if s is not.
func MustParse(s string) Address {
	a, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

func invalid(s string) error {
	return fmt.Errorf("MAC address %.40q: want six bytes such as 02:42:0a:20:00:05", s)
}

func digit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// FromBytes returns the hardware address of a link, as the kernel has it, if it is an Ethernet address. It is zero if
// there is none or it is of another length, as that of a tunnel or of InfiniBand.
func FromBytes(b []byte) Address {
	if len(b) != len(Address{}) {
		return Address{}
	}
	return Address(b)
}

// IsZero reports whether a stands for no address.
func (a Address) IsZero() bool { return a == Address{} }

// IsUnicast reports whether a is the address of one station: the group bit (the lowest of the first byte) is clear.
func (a Address) IsUnicast() bool { return a[0]&1 == 0 }

const hexDigits = "0123456789abcdef"

// String returns the colon form in lower case, and "" for the zero Address.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	b := make([]byte, 0, len("00:00:00:00:00:00"))
	for i, octet := range a {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, hexDigits[octet>>4], hexDigits[octet&0xf])
	}
	return string(b)
}

// MarshalText returns what String does.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText is the inverse of MarshalText: an empty text is the zero Address.
func (a *Address) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Address{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*a = parsed
	return nil
}
