package locks

import "testing"

func TestSlotsAreThoseOfTheServer(t *testing.T) {
	// As CLUSTER KEYSLOT says.
	for name, slot := range map[string]uint16{
		"123456789": 12739, "": 0, "foo": 12182, "{foo}bar": 12182, "bar{foo}{a}": 12182, "{}foo": 9500, "foo{": 7673, "{a": 10276,
	} {
		if is := slotOf(name); is != slot {
			t.Errorf("%q: %d, and not %d", name, is, slot)
		}
	}
}
