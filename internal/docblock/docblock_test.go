package docblock

import (
	"errors"
	"strings"
	"testing"
)

func TestRewrite(t *testing.T) {
	const text = "a\n<!-- n x y -->\nold\n<!-- /n -->\nb <!-- other 1 -->\nkept<!-- /other -->\n<!-- n z -->\n<!-- /n -->"
	upper := func(arguments string) (string, error) { return strings.ToUpper(arguments) + "\n", nil }
	got, err := Rewrite(text, "n", upper)
	const want = "a\n<!-- n x y -->\nX Y\n<!-- /n -->\nb <!-- other 1 -->\nkept<!-- /other -->\n<!-- n z -->\nZ\n<!-- /n -->"
	if err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := Rewrite(got, "n", upper); err != nil || again != got {
		t.Errorf("a second time: %q, %v", again, err)
	}
	if same, err := Rewrite("nothing", "n", upper); err != nil || same != "nothing" {
		t.Errorf("without blocks: %q, %v", same, err)
	}
	if _, err := Rewrite(text+"<!-- n w -->\nopen", "n", upper); err == nil || !strings.Contains(err.Error(), "block 3") {
		t.Errorf("an open block: %v", err)
	}
	fails := errors.New("no")
	if _, err := Rewrite(text, "n", func(string) (string, error) { return "", fails }); !errors.Is(err, fails) {
		t.Errorf("a block that cannot be filled: %v", err)
	}
}

func TestTable(t *testing.T) {
	const want = "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
	if got := Table([]string{"a", "b"}, [][]string{{"1", "2"}}); got != want {
		t.Errorf("%q", got)
	}
}
