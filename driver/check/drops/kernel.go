// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// kernel is what has to be known of the running kernel's types, as its BTF tells: offsets in bytes, and names.
type kernel struct {
	head, networkHeader, protocol, device uint32 // in struct sk_buff
	deviceName, deviceNet                 uint32 // in struct net_device
	netNumber                             uint32 // in struct net
	reasons                               map[uint32]string
}

// errOldKernel is the error where kfree_skb has no reasons; it has them since Linux 5.17.
var errOldKernel = errors.New("this kernel gives no reasons for dropping packets: want Linux 5.17 or later")

// readKernel reads what the kernel says about itself.
func readKernel() (kernel, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return kernel{}, fmt.Errorf("read the kernel's types (BTF): %w", err)
	}
	var k kernel
	if k.reasons, err = reasonNames(spec); err != nil {
		return kernel{}, err
	}
	for _, want := range []struct {
		in, member string
		to         *uint32
	}{
		{"sk_buff", "head", &k.head},
		{"sk_buff", "network_header", &k.networkHeader},
		{"sk_buff", "protocol", &k.protocol},
		{"sk_buff", "dev", &k.device},
		{"net_device", "name", &k.deviceName},
		{"net_device", "nd_net", &k.deviceNet}, // a struct with the pointer alone
		{"net", "ns", &k.netNumber},
		{"ns_common", "inum", nil},
	} {
		var s *btf.Struct
		if err := spec.TypeByName(want.in, &s); err != nil {
			return kernel{}, fmt.Errorf("look for the kernel's struct %s: %w", want.in, err)
		}
		at, ok := offsetOf(s.Members, want.member)
		if !ok {
			return kernel{}, fmt.Errorf("the kernel's struct %s has no %s", want.in, want.member)
		}
		if want.to == nil {
			k.netNumber += at
			continue
		}
		*want.to = at
	}
	return k, nil
}

// offsetOf returns where a member is, in bytes; members of anonymous members are searched, too.
func offsetOf(members []btf.Member, name string) (uint32, bool) {
	for _, m := range members {
		if m.Name == name {
			return m.Offset.Bytes(), true
		}
		if m.Name != "" {
			continue
		}
		var inner []btf.Member
		switch t := btf.UnderlyingType(m.Type).(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if at, ok := offsetOf(inner, name); ok {
			return m.Offset.Bytes() + at, true
		}
	}
	return 0, false
}

// reasonNames returns the names of the reasons for drops, without their common prefix.
func reasonNames(spec *btf.Spec) (map[uint32]string, error) {
	var enum *btf.Enum
	if err := spec.TypeByName("skb_drop_reason", &enum); err != nil {
		if errors.Is(err, btf.ErrNotFound) {
			return nil, errOldKernel
		}
		return nil, fmt.Errorf("look for the kernel's enum skb_drop_reason: %w", err)
	}
	out := map[uint32]string{}
	for _, v := range enum.Values {
		out[uint32(v.Value)] = strings.TrimPrefix(v.Name, "SKB_DROP_REASON_")
	}
	return out, nil
}
