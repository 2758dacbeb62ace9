// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
)

// TestRenewedCertificate: this host's certificate for etcd may be renewed while weave runs.
func TestRenewedCertificate(t *testing.T) {
	dir := t.TempDir()
	c := ClusterConfig{TLS: true, Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	if _, err := c.TLSConfig(); err == nil {
		t.Error("no error without a certificate")
	}
	writeCertificate(t, c, 1)
	config, err := c.TLSConfig()
	if err != nil {
		t.Fatal(err)
	}
	for serial := range int64(2) {
		writeCertificate(t, c, serial+1)
		got, err := config.GetClientCertificate(nil)
		if err != nil || got.Leaf.SerialNumber.Int64() != serial+1 {
			t.Errorf("certificate %v: %v, want that with number %d", got, err, serial+1)
		}
	}
}

func writeCertificate(t *testing.T, c ClusterConfig, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		c.Cert: {Type: "CERTIFICATE", Bytes: cert}, c.Key: {Type: "PRIVATE KEY", Bytes: keyBytes},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
