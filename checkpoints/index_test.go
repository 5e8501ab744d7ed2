package checkpoints

import (
	"errors"
	"strings"
	"testing"
)

// The built-in index: every entry is good, and what is not known is not filled in.
func TestIndex(t *testing.T) {
	all, err := Index()
	if err != nil {
		t.Fatal(err)
	}
	roles := map[string]int{}
	for _, k := range all {
		roles[k.Role]++
		if ending(k.Sources[0].URL) != ".safetensors" || Stem(k.Sources[0].URL) != k.Name || k.Origin == "" {
			t.Errorf("%s: the first source is not the reference's own file: %+v", k.Name, k)
		}
		if found, err := Lookup(all, "some/folder/"+k.Name+".pth"); err != nil || found.Name != k.Name {
			t.Errorf("%s is not found: %v", k.Name, err)
		}
	}
	// 8 classifiers and 5 purifiers of three parts (spec: architecture 2 and 5, experiments 2).
	if roles["classifier"] != 8 || roles["decoder"] != 5 || roles["repr_compressors"] != 5 || roles["repr_fcn_compressor"] != 5 || len(all) != 23 {
		t.Errorf("roles %v", roles)
	}
	if _, err := Lookup(all, "cui_2023_decoder"); err == nil || !strings.Contains(err.Error(), "wrn_28_10_cifar_10_cui_2023_decoder") {
		t.Errorf("no near name in %v", err)
	}
	if _, err := Lookup(all, "absent"); err == nil || !strings.Contains(err.Error(), "checkpoint list") {
		t.Error(err)
	}
}

const indexHead = `{"format":"carsokit-index-1","weights":[`

// hostileIndexes are indexes that must be refused, and what the error must say.
var hostileIndexes = []struct{ text, says string }{
	{"", "EOF"},
	{"<!DOCTYPE html><html>", "web page"},
	{"{", "EOF"},
	{"[]", "cannot unmarshal"},
	{"{}", "format"},
	{`{"format":"carsokit-index-2","weights":[]}`, "carsokit-index-2"},
	{indexHead + `]} {}`, "follows"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"https://x/a.pt"}],"sha":"0"}]}`, "unknown field"},
	{indexHead + `{"name":"../a","role":"r","sources":[{"url":"https://x/a.pt"}]}]}`, "name may hold"},
	{indexHead + `{"name":"a.pt","role":"r","sources":[{"url":"https://x/a.pt"}]}]}`, "no ending"},
	{indexHead + `{"name":"a","role":"","sources":[{"url":"https://x/a.pt"}]}]}`, "role"},
	{indexHead + `{"name":"a","role":"r"}]}`, "no source"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"file:///etc/passwd"}]}]}`, "no http"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"https://x/a.exe"}]}]}`, "does not end in"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"https://x/a.pt","bytes":-1}]}]}`, "negative"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"https://x/a.pt","sha256":"ABCD"}]}]}`, "no SHA-256"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"https://x/a.pt"}],"clean":{"percent":192,"images":1,"source":"s"}}]}`, "no percentage"},
	{indexHead + `{"name":"a","role":"r","sources":[{"url":"https://x/a.pt"}]},{"name":"a","role":"r","sources":[{"url":"https://x/a.pt"}]}]}`, "twice"},
	{strings.Repeat(" ", maxIndex+1), "bytes"},
}

func TestHostileIndexes(t *testing.T) {
	for _, h := range hostileIndexes {
		_, err := ParseIndex("mine.json", []byte(h.text))
		e, ok := errors.AsType[*FormatError](err)
		if !ok || e.File != "mine.json" || !strings.Contains(err.Error(), h.says) || e.Remedy == "" || len(err.Error()) > 1000 {
			t.Errorf("%.80s: %v", h.text, err)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(knownFiles)
	f.Add([]byte(`{"format":"carsokit-index-1","weights":[{"name":"a","role":"r","sources":[{"url":"https://x/a.pt","bytes":3,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}],"clean":{"percent":92,"images":1,"source":"s"}}]}`))
	for _, h := range hostileIndexes {
		if len(h.text) < 1<<10 {
			f.Add([]byte(h.text))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := ParseIndex("fuzzed", b)
		if err != nil {
			if _, ok := errors.AsType[*FormatError](err); !ok {
				t.Fatalf("error %T: %v", err, err)
			}
			return
		}
		for _, k := range all {
			if k.check() != "" || strings.ContainsAny(k.Name, "/\\") || k.Name[0] == '.' {
				t.Fatalf("accepted %+v", k)
			}
			if found, err := Lookup(all, k.Name); err != nil || found.Name != k.Name {
				t.Fatalf("%q is not found: %v", k.Name, err)
			}
		}
	})
}
