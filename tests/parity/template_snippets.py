"""Single constructs of the template language; test_chat_template.py renders each with Jinja2 and with weir over VARIABLES.

Not here, because weir does not offer it: complex numbers, integers above 128 bits, bytes (str.encode), lipsum(), self, template
inheritance and imports, and the text of functions and generators, which holds an address in Python.
"""

VARIABLES = {
    "t": True, "f": False, "n": None, "zero": 0, "one": 1, "i": 7, "neg": -7, "big": 12345678901234567890, "x": 2.5, "y": -0.1, "e": 1e22,
    "s": "Hello, World", "empty": "", "u": "Grüße 你好 👍 ſtraße ǅ Σας ΟΔΟΣ", "ws": " \t\n pad\u00a0me \u3000\n", "html": "<a href='x'>\"&\"</a>",
    "multi": "one\ntwo\r\nthree\n\nfive\x0bsix\u2028seven\n", "digits": "42", "words": "the quick brown fox",
    "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "mixed": [1, 2.0, True, None, "x", [1], {"k": 1}], "nested": [[1, 2], [3, [4, 5]]], "el": [],
    "d": {"b": 1, "a": 2, "C": 3}, "ed": {}, "dd": {"items": 5, "x": {"y": [10, {"z": "deep"}]}, "get": "got", "name": "n"},
    "people": [{"name": "Bob", "age": 30, "ok": True}, {"name": "alice", "age": 25}, {"name": "Carl", "age": 30, "ok": False, "pet": {"name": "Rex"}}],
    "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2
7 // 2 ~ ' ' ~ -7 // 2 ~ ' ' ~ 7 // -2 ~ ' ' ~ 7.5 // 2 ~ ' ' ~ -7.5 // 2
7 % 3 ~ ' ' ~ -7 % 3 ~ ' ' ~ 7 % -3 ~ ' ' ~ 7.5 % 2 ~ ' ' ~ -7.5 % 2 ~ ' ' ~ 0.0 % -2
2 ** 10 ~ ' ' ~ 2 ** -1 ~ ' ' ~ 2 ** 3 ** 2 ~ ' ' ~ -2 ** 2 ~ ' ' ~ 2.5 ** 2 ~ ' ' ~ 9 ** 0.5
1 / 3
10 / 5
1 / 0
1 // 0
1 % 0
1.0 / 0
0 ** -1
big + 1
big * 2
-big
2 ** 100
1e400
1e308 * 10
0.1 + 0.2
1e16 ~ ' ' ~ 1e15 ~ ' ' ~ 123456789012345680.0 ~ ' ' ~ 1e-4 ~ ' ' ~ 0.00001 ~ ' ' ~ 1.5e300 ~ ' ' ~ -0.0
100.0 ~ ' ' ~ 1_000 ~ ' ' ~ 0x1F ~ ' ' ~ 0b101 ~ ' ' ~ 0o17 ~ ' ' ~ 1_0.5_0 ~ ' ' ~ 1e3 ~ ' ' ~ 1.5E-3
e ~ ' ' ~ x ~ ' ' ~ y
t + t
t * 3
-t
+t
+y
- - 3
not t
not not empty
'a' + 'b'
'a' * 3
3 * 'ab'
'a' * -1
[1] + [2, 3]
[1, 2] * 2
(1, 2) + (3,)
(1,) * 3
1 + 'a'
'a' + 1
[1] + (2,)
n + 1
undefined_name + 1
1 + undefined_name
undefined_name
undefined_name.foo
undefined_name['foo']
undefined_name()
d.missing
d.missing.more
d['missing']
d.missing is defined
n.foo
n['foo']
i.foo is undefined
l.foo is undefined
(d.missing or 'fallback')
undefined_name == other_undefined
undefined_name == none
undefined_name in l
l in undefined_name
undefined_name < 1
undefined_name | length
undefined_name | list
undefined_name | upper
undefined_name | int
undefined_name | float
undefined_name | default('d')
undefined_name | string | length
undefined_name | tojson
undefined_name | first is defined
undefined_name | last is defined
undefined_name | items | list
undefined_name | join(',')
undefined_name is sequence
undefined_name is iterable
undefined_name is mapping
undefined_name is callable
undefined_name is string
undefined_name is none
undefined_name[1:2]
[undefined_name]
undefined_name ~ 'x'
undefined_name if false else 'other'
'yes' if f
('yes' if f) is defined
'a' if t else 'b' if f else 'c'
'a' if f else 'b' if f else 'c'
'a' if f else ('b' if t)
1 < 2 < 3
1 < 3 < 2
3 > 2 >= 2 > 1
1 == 1.0 == t
1 != 1
'a' < 'b'
'B' < 'a'
'é' > 'z'
[1, 2] < [1, 3]
[1, 2] < [1, 2, 0]
(1, 2) == [1, 2]
[1, 'a'] == [1, 'a']
d == {'a': 2, 'b': 1, 'C': 3}
1 < 'a'
none < 1
none == none
d < d
t == 1
f == 0
1 in [1, 2]
1.0 in [1, 2]
'ell' in s
'' in s
1 in s
'b' in d
1 in d
'z' not in d
not 'z' in d
2 in (1, 2)
3 in range(5)
'x' in none
[1] in [[1]]
'a' in 'abc' and 'b' in 'abc'
t and 'last'
f and 'last'
empty or 'last'
0 or none
1 or missing_name.foo
0 and missing_name.foo
'a' ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'a'] ~ {'a': none}
1 + 2 ~ 3 * 4
(1 ~ 2) + '3'
'a' 'b' "c"
"tab\tnl\nq\"b\\s\x41\u00e9\U0001F600\101\0end"
'unknown \q \é escape'
'line\
continued'
"it's" ~ 'say "hi"'
[]
{}
()
(1,)
(1, 2)
[1, 2,]
{'a': 1,}
{1: 'a', 1.0: 'b', true: 'c'}
{'a': 1, 'a': 2}
{(1, 2): 'tuple'}
{[1]: 2}
{'k': [1, (2, 3), {'z': none}], "it's": 'q"', 'both': "'\""}
mixed
nested
u
[u, ws, html, "\x00\x1f\x7f\x85\xad\u200b\u2028\ue000", '\ud7ff']
['it\'s', "say \"x\"", 'both \' and "']
[1.0, 1e100, -0.0, true, none]
s[0] ~ s[-1] ~ s[4]
s[99] is undefined
s[-99] is undefined
s[1:4] ~ '|' ~ s[:3] ~ '|' ~ s[-3:] ~ '|' ~ s[::2] ~ '|' ~ s[::-1] ~ '|' ~ s[5:1:-1] ~ '|' ~ s[10:100] ~ '|' ~ s[100:] ~ '|' ~ s[:-100]
u[0:5] ~ '|' ~ u[6:9] ~ '|' ~ u[::-1] ~ '|' ~ u[-3] ~ '|' ~ u[9]
l[0] ~ l[-1] ~ l[1:] ~ l[::-1] ~ l[:2] ~ l[5:] ~ l[-2:]
(1, 2, 3)[1:]
range(10)[2:8:3] | list
range(10)[3] ~ range(10)[-1]
range(5) ~ range(1, 5) ~ range(0, 10, 3)
range(10, 0, -3) | list
range(0) | list
range(5) | length
range(1, 2, 0)
range(1000000)
range('a')
range(1.5)
l['0'] is undefined
l[1.0] is undefined
l[true]
d[['a']] is undefined
s['upper']()
l[::0]
l['a':]
d[1:2]
n[1:2]
i[0] is undefined
nested[1][1][0]
dd.x.y[1].z
dd['x']['y'][1]['z']
dd.x.y.1.z
dd.x.y.0
people[0].name ~ people[-1].pet.name
dd.items is callable
dd['items']
dd.get('name')
dd.name
dd['get']
d.items() | list
d.keys() | list
d.values() | list
d.items()
d.keys()
d.values()
d.items() | length
'a' in d.keys()
3 in d.values()
('a', 2) in d.items()
d.get('a') ~ d.get('q') ~ d.get('q', 'def')
d.get()
d.get([])
d.copy()
d.update({'a': 1})
d.pop('a')
d.clear()
l.append(4)
l.pop()
l.append is defined
l.index(2) ~ l.count(1)
l.index(99)
l.copy()
(1, 2, 1).count(1) ~ (1, 2).index(2)
s.upper() ~ s.lower() ~ s.title() ~ s.capitalize() ~ s.swapcase()
u.upper() ~ '|' ~ u.lower() ~ '|' ~ u.title() ~ '|' ~ u.capitalize() ~ '|' ~ u.swapcase()
u | upper ~ '|' ~ u | lower ~ '|' ~ u | title ~ '|' ~ u | capitalize
'ŉ ǆ ﬁ ΐ ß İ ı' | upper
'İ ẞ ΑΣ ΣΑ Σ ΑΣ. Α.Σ Α.ΣΑ' | lower
"they're bill's friends from-the (uk) [x] {y} <z>" | title
"they're bill's friends from-the UK".title()
'ǆ ﬁ ß' | capitalize ~ 'ǆ ﬁ ß'.title()
s.startswith('Hell') ~ s.startswith('x') ~ s.startswith(('x', 'He')) ~ s.startswith('ello', 1) ~ s.startswith('', 50)
s.endswith('World') ~ s.endswith(('x', 'ld')) ~ s.endswith('Worl', 0, -1) ~ s.endswith('')
s.startswith(1)
s.startswith(['He'])
s.split(', ') ~ s.split() ~ s.split('l') ~ s.split('l', 1) ~ s.split(sep='o', maxsplit=1) ~ s.split('zz')
s.rsplit('l', 1) ~ s.rsplit('l') ~ s.rsplit() ~ words.rsplit(none, 1) ~ words.split(none, 2) ~ words.split(' ', -1)
'aaa'.split('aa') ~ 'aaa'.rsplit('aa') ~ 'aaaa'.rsplit('aa', 1)
' a  b '.split() ~ ' a  b '.split(' ') ~ ''.split() ~ ''.split(',') ~ ' a  b '.rsplit(none, 1) ~ ' a  b '.split(none, 1)
s.split('')
s.split(1)
multi.splitlines()
multi.splitlines(true)
''.splitlines()
ws.strip() ~ '|' ~ ws.lstrip() ~ '|' ~ ws.rstrip() ~ '|'
'xxaxx'.strip('x') ~ 'abcba'.strip('ab') ~ 'xxaxx'.lstrip('x') ~ 'xxaxx'.rstrip('x') ~ 'éaé'.strip('é') ~ 'a'.strip('') ~ ' a '.strip(none)
s.replace('l', 'L') ~ s.replace('l', 'L', 1) ~ s.replace('', '-') ~ s.replace('', '-', 2) ~ 'éé'.replace('', '.') ~ 'aaa'.replace('aa', 'b')
s.replace('l')
s.find('o') ~ s.find('o', 5) ~ s.find('z') ~ s.rfind('o') ~ u.find('你') ~ u.rfind('s') ~ s.find('') ~ s.find('l', 0, 3) ~ s.find('', 50) ~ s.rfind('')
s.index('W') ~ s.rindex('l')
s.index('z')
s.count('l') ~ s.count('') ~ 'aaaa'.count('aa') ~ s.count('l', 4) ~ 'é'.count('')
', '.join(['a', 'b']) ~ ''.join(('x', 'y')) ~ '-'.join('abc') ~ '-'.join([]) ~ '-'.join(d)
','.join([1, 2])
s.partition(', ') ~ s.partition('zz') ~ s.rpartition('o') ~ s.rpartition('zz')
'7'.zfill(3) ~ '-7'.zfill(4) ~ '+7'.zfill(1) ~ 'ab'.zfill(5)
'a'.center(4, '*') ~ 'ab'.center(5) ~ '|' ~ 'a'.ljust(3, '.') ~ 'a'.rjust(3, '.') ~ 'abc'.center(2) ~ 'a'.center(3, '👍')
'unhappy'.removeprefix('un') ~ 'unhappy'.removesuffix('py') ~ 'a'.removeprefix('b')
'abc'.isalpha() ~ 'ab1'.isalnum() ~ '12'.isdigit() ~ '²'.isdigit() ~ '²'.isdecimal() ~ '½'.isnumeric() ~ ''.isdigit() ~ ' \t'.isspace() ~ 'é'.isascii()
'abc'.islower() ~ 'ABC'.isupper() ~ 'Abc Def'.istitle() ~ 'aB'.islower() ~ '1'.islower() ~ 'a1'.islower() ~ 'ǅ'.istitle() ~ 'x'.isprintable() ~ '\n'.isprintable()
'a\tb'.expandtabs(4) ~ '\t|'.expandtabs()
'{} {}'.format('a', 1) ~ '{1} {0}'.format('a', 'b') ~ '{x}'.format(x=5) ~ '{{}}'.format() ~ '{0.name}{1[k]}'.format(people[0], {'k': 'v'})
'{:>5}|{:<5}|{:^5}|{:*^7}|{:05d}|{:+d}|{:,}|{:.2f}|{:x}|{:#x}|{:e}|{:%}|{:8.3f}'.format('a', 'b', 'c', 'd', 42, 7, 1234567, 3.14159, 255, 255, 12345.678, 0.25, 2.5)
'{:5}|{:5}|{:.2}|{!r}|{:05}|{:_}|{:b}|{:c}|{:g}|{:.3}'.format('a', 1, 'abcdef', 'q', -3, 1234567, 5, 65, 0.0001, 3.14159)
'{}'.format()
'{'.format(1)
'{:d}'.format('a')
'%s is %d years, %.2f, %5s|%-5s|%05d|%x|%X|%o|%e|%g|%%|%r|%c' % ('Bob', 42.9, 3.14159, 'a', 'b', 42, 255, 255, 8, 12345.678, 0.0001, 'q', 'c')
'%s' % 'one' ~ '%s' % (1,) ~ '%s' % [1] ~ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} ~ '%+d % d' % (5, 5) ~ '%5.1f|%-8.3e|' % (2.25, 1.5)
'%s' % ()
'%s %s' % ('a',)
'%s' % ('a', 'b')
'%d' % 'a'
'%q' % 1
'%s' % {'a': 1}
'%s %s' | format('a', 1)
'%(k)s' | format(k='v')
s.__class__
s.__class__.__mro__
''.__doc__
d.__init__
s | upper ~ s | lower ~ s | length ~ s | count ~ s | first ~ s | last ~ s | reverse ~ s | list
empty | first is defined
empty | last is defined
el | first is defined
el | last is defined
el | min is defined
l | sort ~ l | sort(reverse=true) ~ ls | sort ~ ls | sort(case_sensitive=true) ~ ls | sort(true, true)
people | sort(attribute='age') | map(attribute='name') | list
people | sort(attribute='age,name') | map(attribute='name') | join(' ')
people | sort(attribute='name', reverse=true) | map(attribute='name') | join(' ')
mixed | sort
ls | unique | list
ls | unique(case_sensitive=true) | list
[1, 1.0, true, 2, '1'] | unique | list
people | unique(attribute='age') | map(attribute='name') | list
[[1]] | unique | list
l | min ~ l | max ~ ls | min ~ ls | max ~ ls | max(case_sensitive=true) ~ 'hello' | max
people | min(attribute='age')
[1, 'a'] | max
l | sum ~ people | sum(attribute='age') ~ l | sum(start=10) ~ [[1], [2]] | sum(start=[]) ~ [1.5, 2] | sum
['a', 'b'] | sum
el | sum
l | join ~ l | join(', ') ~ people | join('-', attribute='name') ~ mixed | join('/') ~ 'abc' | join('.') ~ d | join(',')
n | join
l | reverse | list ~ (1, 2) | reverse | list ~ d | reverse | list ~ range(3) | reverse | list
5 | reverse
l | list ~ 'ab' | list ~ d | list ~ range(3) | list ~ (1, 2) | list
n | list
d | length ~ el | length ~ u | length ~ range(4) | length
5 | length
none | length
(l | map('string')) | length
l | map('string') | list
ls | map('upper') | map('lower') | list
people | map(attribute='pet.name') | list
people | map(attribute='pet.name', default='none') | list
people | map(attribute='ok', default=false) | list
nested | map(attribute=0) | list
nested | map(attribute='1.0') | list
nested | map('sum') | list
ls | map('replace', 'a', 'X') | list
ls | map('default', 'z') | join
l | map('nofilter') | list
l | select | list ~ [0, 1, none, ''] | select | list ~ [0, 1, none, ''] | reject | list
l | select('odd') | list ~ l | reject('odd') | list ~ l | select('gt', 1) | list ~ l | select('in', [1, 2]) | list ~ l | select('divisibleby', 3) | list
l | select('==', 2) | list ~ l | select('!=', 2) | list ~ l | select('<=', 2) | list ~ l | select('ge', 2) | list ~ l | select('lessthan', 2) | list
people | selectattr('ok') | map(attribute='name') | list
people | selectattr('ok', 'defined') | map(attribute='name') | list
people | selectattr('age', 'equalto', 30) | map(attribute='name') | list
people | selectattr('age', '>', 26) | list | length
people | rejectattr('ok') | map(attribute='name') | list
people | rejectattr('pet', 'defined') | list | length
people | selectattr('pet.name', 'eq', 'Rex') | list
messages | selectattr('role', 'in', ['user', 'system']) | map(attribute='content') | join('|')
l | map() | list
people | selectattr() | list
l | select('nosuchtest') | list
n | select | list
5 | select | list
l | batch(2) | list ~ l | batch(2, 'x') | list ~ l | slice(2) | list ~ range(7) | slice(3, 0) | list
d | dictsort ~ d | dictsort(true) ~ d | dictsort(by='value') ~ d | dictsort(reverse=true) ~ d | dictsort(false, 'value', true)
n | dictsort
d | dictsort(by='x')
d | items | list
l | items | list
(d | items) is iterable
d | tojson ~ l | tojson ~ mixed | tojson ~ u | tojson ~ html | tojson ~ ws | tojson ~ none | tojson ~ x | tojson ~ e | tojson ~ big | tojson
d | tojson(indent=2)
nested | tojson(indent=4)
ed | tojson(indent=2) ~ el | tojson(indent=2)
d | tojson(indent='\t')
d | tojson(indent=0)
d | tojson(sort_keys=true)
u | tojson(ensure_ascii=true)
u | tojson(true)
d | tojson(separators=(',', ':'))
d | tojson(separators=[',', ':'], indent=1)
{1: 2, none: 3, true: 4, 1.5: 5} | tojson
{(1, 2): 3} | tojson
"\x00\x1f\x7f\"\\/\b\f\n\r\t\u2028" | tojson
range(3) | tojson
d.items() | tojson
(1, [2, (3,)]) | tojson
l | map('string') | tojson
s | tojson(1, 2, 3, 4, 5)
s | tojson(foo=1)
'42' | int ~ ' 42 ' | int ~ '-4_2' | int ~ '4.9' | int ~ 'x' | int ~ 'x' | int(-1) ~ '0x1F' | int(0, 16) ~ '1F' | int(base=16) ~ '0b11' | int(0, 2) ~ 3.99 | int ~ -3.99 | int ~ true | int
none | int ~ [] | int(5) ~ '' | int ~ '1e3' | int ~ 'nan' | int ~ 'inf' | int(7) ~ '12' | int(0, 0) ~ '012' | int(9, 0)
(1e400 - 1e400) | int
1e400 | int
'4.2' | float ~ '1e3' | float ~ 'x' | float ~ 'x' | float(1.5) ~ ' 2 ' | float ~ 3 | float ~ 'inf' | float ~ '-Infinity' | float ~ 'nan' | float ~ '1_0' | float ~ '_1' | float ~ true | float
none | float
neg | abs ~ y | abs ~ true | abs
'a' | abs
2.5 | round ~ 3.5 | round ~ -2.5 | round ~ 2.675 | round(2) ~ 42.55 | round(1, 'floor') ~ 42.55 | round(1, 'ceil') ~ 1234.5 | round(-2) ~ 42 | round ~ 45 | round(-1) ~ 55 | round(-1) ~ 42 | round(0, 'ceil') ~ 1e300 | round(2)
42.5 | round(method='ceil') ~ 7 | round(-1, 'floor')
'a' | round
2.5 | round(1, 'up')
words | replace('quick', 'slow') ~ words | replace('o', '0', 1) ~ 5 | replace(5, 6) ~ s | replace('', '-')
ws | trim ~ '|' ~ 'xxaxx' | trim('x') ~ '|' ~ 5 | trim ~ '|' ~ none | trim
multi | indent ~ '|' ~ multi | indent(2) ~ '|' ~ multi | indent(2, true) ~ '|' ~ multi | indent(2, blank=true) ~ '|' ~ multi | indent('> ', first=true, blank=true) ~ '|' ~ 'a' | indent
5 | indent
words | truncate(9) ~ words | truncate(9, true) ~ words | truncate(14, false, '…', 0) ~ words | truncate(19) ~ 'averylongword' | truncate(6, false, '..', 0)
words | wordcount ~ u | wordcount ~ '' | wordcount
'ab' | center(7) ~ '|'
html | escape ~ html | e ~ (html | safe) | e ~ 5 | e
(html | safe) + '<b>'
'<b>' + (html | safe)
(html | safe) ~ '<b>'
('<i>' | safe) * 2
[html | safe]
(html | safe).upper() ~ (html | safe)[0:3] ~ (html | safe) | upper
(html | safe) | string is escaped
(html | safe) | trim is escaped
(html | safe) | replace('a', '<') ~ (html | safe) is string
('<p>' | safe).join(['<', '>' | safe])
d | string ~ 5 | string ~ none | string ~ [1] | string
empty | default('d') ~ empty | default('d', true) ~ n | default('d') ~ n | d('d', boolean=true) ~ zero | default(5, true) ~ missing | default
d | attr('a') is defined
d | attr('keys') is callable
s | attr('upper') is callable
one is odd ~ i is even ~ 6 is divisibleby 3 ~ 6 is divisibleby(4)
'a' is odd
s is string ~ i is string ~ i is number ~ x is number ~ t is number ~ t is boolean ~ i is boolean ~ i is integer ~ t is integer ~ x is float ~ i is float
d is mapping ~ l is mapping ~ l is sequence ~ s is sequence ~ d is sequence ~ (1,) is sequence ~ range(2) is sequence ~ i is sequence ~ (l | map('string')) is sequence ~ d.items() is sequence
l is iterable ~ s is iterable ~ i is iterable ~ d is iterable ~ none is iterable ~ (l | map('string')) is iterable ~ d.items() is iterable
t is true ~ 1 is true ~ f is false ~ 0 is false ~ none is none ~ n is none ~ f is none ~ d.q is none
s is lower ~ 'abc' is lower ~ 'ABC' is upper ~ u is upper ~ '1' is lower
s is defined ~ missing is defined ~ missing is undefined ~ missing is not defined ~ s is not undefined
1 is eq 1 ~ 1 is equalto(1.0) ~ 1 is ne 2 ~ 1 is lt 2 ~ 2 is gt 1 ~ 2 is ge 2 ~ 1 is le 0 ~ 'a' is in 'abc' ~ 1 is in [1] ~ 3 is not in [1] ~ 1 is sameas 1 ~ true is sameas true
1 is sameas(true)
none is sameas none
'upper' is filter ~ 'nofilter' is filter ~ 'odd' is test ~ 'notest' is test
range is callable ~ s is callable ~ s.upper is callable ~ namespace is callable
1 is nosuchtest
1 | nosuchfilter
1 if true else 2 | nosuchfilter
i is number and i is not string or false
not i is string
i is defined and i > 3
(i is defined) ~ 'x'
'%d' | format(3) is string
namespace(a=1).a ~ namespace({'a': 2}).a ~ namespace({'a': 2}, b=3).b
namespace(a=1)
namespace(a=1).b is defined
namespace(a=1)['a']
namespace(_a=1)
namespace(5)
dict(a=1, b=2) ~ dict([('a', 1)]) ~ dict({'x': 1}, y=2) ~ dict()
dict([1])
dict(a=1).a
cycler('a', 'b').next()
cycler()
joiner(', ')() ~ '|'
raise_exception('boom: ' ~ i)
raise_exception()
strftime_now('%Y-%m-%d')
strftime_now('100%% %Y')
strftime_now('')
s.upper(1)
s.nosuchmethod()
s()
l()
[1, 2, 3].0
[1, 2, 3][1]
{'a': {'b': 1}}.a.b
'abc'.upper().lower().title()
('a', 'b')[0]
(1 + 2) * 3
-(1 + 2)
-i | abs
-x | string
2 * -3
l[i - 5:]
l[-1:][0]
'x' if l else 'y'
'x' if el else 'y'
[x * 2, y]
{'a': l, s: d}
{'a': 1}['a']
[[1, 2], [3]] | map('first') | list
[' a ', 'b '] | map('trim') | list
'a,b,,c'.split(',') | select | join('+')
d.items() | map('first') | list
d.values() | sum
d | list | sort
'1' + '2' | int
('1' + '2') | int
1 + 2 | string
'a' ~ 'b' | upper
f(1)
(l | map('string') | list)[0]
l | first + 1
l | sort | first ~ l | sort | last
(d | items | list)[0][0]
"%s" | format(none)
1 == '1'
'abc' == 'abc'
'é' == 'e\u0301'
1_0
1__0
.5
5.
'unterminated
{{ 1 }}
[1, 2
(1
1 +
* 1
a b
1 if
is defined
x is
x | 
x.
x[
x['a'
{'a' 1}
{'a': }
{,}
[,]
f(,)
f(a=1, 2)
f(*l, 1)
f(**d, *l)
f(a=1, a=2)
range(*[3]) | list
range(*l) | list
dict(**d)
dict(a=1, **{'a': 2})
dict(**l)
loop.index
caller()
true.foo
True ~ False ~ None ~ true ~ false ~ none
1 @ 2
1 ! 2
a $ b
1 = 2
l | sort(attribute='x')
people | map(attribute='name') | sort | join
[3, 1] | sort | map('string') | join('<')
'ab' in ['abc']
'ab' in {'ab': 1}
not none
none and 1
'\n'.join(['a', 'b'])
'A' < 'a' < 'b'
[none, undefined_name] | map('default', 'x') | list
[undefined_name, undefined_name] | unique | list | length
{'a': undefined_name}
{'a': undefined_name} | tojson
messages[0]['role'] == 'system'
messages[1:] | length
messages | last
(messages | last).role
messages | map(attribute='role') | list
messages[-1].content.split('o')[0]
messages | selectattr('role', 'equalto', 'user') | first
(messages | selectattr('role', 'equalto', 'nobody') | first) is defined
(messages | rejectattr('role', 'equalto', 'user') | list)[1].content
""".strip("\n")


STATEMENTS = [
    # for
    "{% for a in l %}{{ a }}{% endfor %}", "{% for a in el %}x{% else %}empty{% endfor %}", "{% for a in l %}x{% else %}empty{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for a, b in [[1, 2], (3, 4), 'xy'] %}{{ a }}{{ b }};{% endfor %}",
    "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}",
    "{% for a in n %}{% endfor %}", "{% for a in 5 %}{% endfor %}", "{% for a in missing %}x{% else %}none{% endfor %}",
    "{% for a in l if a > 1 %}{{ loop.index }}:{{ a }}/{{ loop.length }} {% endfor %}", "{% for a in l if a > 9 %}x{% else %}none{% endfor %}",
    "{% for a in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
    "{{ loop.depth }}{{ loop.depth0 }}|{{ loop.previtem }}|{{ loop.nextitem }}|{{ loop.cycle('a', 'b') }}|{{ loop.changed(a > 1) }};{% endfor %}",
    "{% for a in l|map('string') %}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.nextitem }};{% endfor %}",
    "{% for a in l|map('string') %}{{ loop.nextitem }}{{ loop.length }}{{ a }};{% endfor %}",
    "{% for a in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", "{% for a in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for a in l %}{% for b in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for a in l %}{% set outer = loop %}{% for b in ls %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for a in l recursive %}{{ a }}{% endfor %}",
    "{% for a in nested recursive %}[{% if a is sequence %}{{ loop(a) }}{% else %}{{ a }}@{{ loop.depth }}{% endif %}]{% endfor %}",
    "{% for a in l %}{{ loop(l) }}{% endfor %}", "{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endfor %}",
    "{% for a in l %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endfor %}", "{% for a in l %}{% break %}{% else %}else{% endfor %}",
    "{% for a in l %}{% continue %}{% else %}else{% endfor %}", "{% for a in l %}{% if a == 2 %}{% break %}{% endif %}{% else %}else{% endfor %}",
    "{% break %}", "{% for a in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for a in l %}{% set b %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endset %}{{ b }};{% endfor %}",
    "{% for a in l %}{% for b in l %}{% if b == 1 %}{% break %}{% endif %}{{ b }}{% endfor %};{% endfor %}",
    "{% for loop in l %}{% endfor %}", "{% for a in l %}{% set loop = 1 %}{% endfor %}", "{% for x.y in l %}{% endfor %}", "{% for 1 in l %}{% endfor %}",
    "{% for true in l %}{% endfor %}", "{% for a in 1, 2, 3 %}{{ a }}{% endfor %}", "{% for a in l + [9] %}{{ a }}{% endfor %}",
    "{% for m in messages %}{{ loop.index0 }}{{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for m in messages[::-1] %}{{ m.role }} {% endfor %}", "{% for m in messages if m.role != 'user' %}{{ loop.last }}{{ m.role }} {% endfor %}",
    "{% for i in range(3) %}{{ i }}{% endfor %}{{ i }}", "{% for a in ns %}{% endfor %}", "{% for k, v in people[0] | dictsort %}{{ k }}:{{ v }} {% endfor %}",
    "{% set ns = namespace(stop=false) %}{% for a in l if not ns.stop %}{{ a }}{% if a == 1 %}{% set ns.stop = true %}{% endif %}{% endfor %}",
    "{% for a in l %}{{ loop }}{% endfor %}", "{% for a in 'ab' %}{{ loop.first and 'F' or 'N' }}{{ a }}{% endfor %}",
    # if
    "{% if t %}a{% elif t %}b{% else %}c{% endif %}", "{% if f %}a{% elif t %}b{% else %}c{% endif %}", "{% if f %}a{% elif f %}b{% else %}c{% endif %}",
    "{% if missing %}a{% endif %}b", "{% if l and d %}y{% endif %}", "{% if el or ed or empty or zero or n %}y{% else %}n{% endif %}", "{% if 1, %}y{% endif %}",
    "{% if t: %}y{% endif %}", "{% if not t %}{% else %}e{% endif %}", "{% if %}{% endif %}", "{% if t %}", "{% endif %}", "{% if t %}{% endfor %}",
    "{% if t %}{% else %}{% elif t %}{% endif %}", "{% if f %}{{ 1 | nosuch }}{% endif %}ok", "{% if t %}{{ 1 | nosuch }}{% endif %}",
    "{% for a in [] %}{{ 1 | nosuch }}{% endfor %}", "{% if f %}{% for a in l %}{{ 1 | nosuch }}{% endfor %}{% endif %}", "{% if x is nosuch %}{% endif %}",
    "{{ 1 if t else (2 | nosuch) }}", "{% if f %}{{ 1 is nosuch }}{% endif %}ok",
    # set and scope
    "{% set a = 1 %}{{ a }}", "{% set a = 1 %}{% if t %}{% set a = 2 %}{% endif %}{{ a }}", "{% set a = 0 %}{% for b in l %}{% set a = a + b %}{{ a }} {% endfor %}{{ a }}",
    "{% for b in l %}{{ a }}{% set a = b %}{{ a }} {% endfor %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = l %}", "{% set (a, b) = [5, 6] %}{{ b }}",
    "{% set a = 1, %}{{ a }}", "{% set a = b = 1 %}", "{% set 1 = 2 %}", "{% set true = 2 %}", "{% set a.b = 1 %}", "{% set d.b = 1 %}", "{% set a[0] = 1 %}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}", "{% set ns = namespace(x=0) %}{% for a in l %}{% set ns.x = ns.x + a %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}", "{% set ns = namespace(l=[]) %}{% set ns.l = ns.l + [1] %}{% set ns.l = ns.l + [2] %}{{ ns.l }}",
    "{% set ns = namespace() %}{% set ns.me = 1 %}{{ ns }}", "{% set a %}x{{ i }}y{% endset %}{{ a }}{{ a is string }}", "{% set a | upper %}x{{ s }}{% endset %}{{ a }}",
    "{% set a | replace('x', 'y') | upper %}xz{% endset %}{{ a }}", "{% set a %}{% set b = 1 %}{% endset %}[{{ b }}]", "{% set a = 1 %}{% set f2 = a %}{% set a = 2 %}{{ f2 }}",
    "{{ s }}{% set s = 'new' %}{{ s }}", "{% for q in l %}{{ s }}{% endfor %}{% set s = 'new' %}{{ s }}", "{% for q in [1] %}[{{ s }}]{% if f %}{% set s = 1 %}{% endif %}{{ s }}{% endfor %}",
    "{% if f %}{% set s = 1 %}{% endif %}{{ s }}", "{% macro m() %}[{{ s }}]{% endmacro %}{{ m() }}{% set s = 'new' %}{{ m() }}",
    "{% if t %}{% macro m() %}[{{ s }}]{% endmacro %}{% endif %}{{ m() }}{% if t %}{% set s = 'new' %}{% endif %}{{ m() }}",
    "{% for q in l %}{% if loop.first %}{% set s = 'first' %}{% endif %}{{ s }} {% endfor %}", "{% for q in l %}{% set s = q %}{% endfor %}{{ s }}",
    "{% for q in [1] %}{% for r in [1] %}[{{ s }}]{% endfor %}{% set s = 2 %}{{ s }}{% endfor %}", "{% with %}{% set s = 1 %}{{ s }}{% endwith %}{{ s }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with a = i %}{{ a }}{% set i = 1 %}{{ i }}{% endwith %}{{ i }}",
    "{% set range = 5 %}{{ range }}", "{% set x = x %}{{ x }}", "{% set zz = zz %}{{ zz }}", "{% set c = s if t else n %}{{ c }}",
    "{% for a in l %}{% set s = s ~ a %}{{ s }};{% endfor %}", "{{ [a, b] }}{% set a = 1 %}{% set b = 2 %}{{ [a, b] }}", "{% set tools = tools or [] %}{{ tools }}",
    "{% set x = 1 %}{% for q in [1, 2] %}{% set x = x + 1 %}{{ x }}{% for r in [1] %}{% set x = x * 10 %}{{ x }}{% endfor %}{{ x }};{% endfor %}{{ x }}",
    # macro and call
    "{% macro m(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(a=4, b=5) }}{{ m(b=6, a=7) }}{{ m() }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}", "{% macro m(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}{{ m(b=5) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}",
    "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m(1) %}{% endmacro %}", "{% macro m %}{% endmacro %}",
    "{% macro m(n) %}{{ n }}{% if n > 0 %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}", "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{{ m(1) }}{% macro m(a) %}{% endmacro %}", "{% macro m() %}{% set a = 1 %}{% endmacro %}{{ m() }}{{ a }}", "{% macro m() %}x{% endmacro %}{{ m() | upper }}{{ m() ~ 'y' }}{{ m() + 'z' }}",
    "{% macro m() %}  x  {% endmacro %}[{{ m() | trim }}]", "{% macro a() %}A{% endmacro %}{% macro b() %}{{ a() }}B{% endmacro %}{{ b() }}", "{% macro m(f) %}{{ f('x') }}{% endmacro %}{% macro g(v) %}<{{ v }}>{% endmacro %}{{ m(g) }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ i }}{% endcall %}", "{% macro m() %}[{{ caller(1) }}{{ caller(2) }}]{% endmacro %}{% call(v) m() %}v={{ v }}{% endcall %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% macro m(caller) %}{{ caller() }}{% endmacro %}", "{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}",
    "{% call 5 %}{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{% for a in l %}{% call m() %}{{ a }}{{ loop.index }}{% endcall %}{% endfor %}",
    "{% macro m(a) %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}{% endmacro %}{{ m(1) }}{{ m }}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ l | map('string') | map('upper') | join }}{{ m(x=[1, 2] | map('string') | join) }}",
    "{% for a in l %}{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{% for a in l %}{{ a }}{% endfor %}{% endmacro %}{{ m() }}", "{% macro m() %}{{ loop }}{% endmacro %}{% for a in l %}{{ m() }}{% endfor %}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m(d) %}{{ d }}{% endmacro %}{{ m() }}|{{ m(none) }}", "{% macro if() %}{% endmacro %}",
    # filter, generation, print, unsupported
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aXa{% endfilter %}", "{% filter nosuch %}{% endfilter %}", "{% for a in l %}{% filter trim %} {{ a }}{% endfilter %}{% endfor %}",
    "{% generation %}a{{ i }}{% endgeneration %}b", "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}", "{% for a in l %}{%- generation -%} {{ a }} {%- endgeneration -%} {% endfor %}",
    "{% print 1, 'a' %}", "{% nosuchtag %}", "{% raw %}{{ x }}{% endraw %}", "{%- raw -%} {{ x }} {%- endraw -%} z", "{% raw %}\n a {% if %}\n{% endraw %}\nb", "{% raw %}", "a {% raw %} {% b %}{# c #} {%- endraw %} d",
    # white space, comments
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "a\n  {% if t %}\n  b\n  {% endif %}\n  c", "a {% if t %} b {% endif %} c", "a\n{%- if t -%}\n b \n{%- endif -%}\n c", "a\n\n  {%- if t %}\n\nb{% endif %}",
    "  {%+ if t %}x{% endif %}", "{% if t +%}\nx{% endif %}", "a  {{- i -}}  b", "a\n{{ i }}\nb", "a\n  {{ i }}  \nb", "{{ i }}\n\n{{ i }}", "{% if t %}\n\n\nx{% endif %}", "{# c #}x", "a\n  {# c #}\nb", "a {#- c -#} b",
    "a {# {{ x }} {% if %} #} b", "{# unclosed", "{#-#}x", "{#+ c +#}\nx", "x{# a #}\n{# b #}\ny", "\n{% set a = 1 %}\n{% set b = 2 %}\n{{ a }}", "{% for a in l %}\n  {{ a }}\n{% endfor %}", "{% for a in l -%}\n  {{ a }}\n{%- endfor %}",
    "\t{% if t %}x{% endif %}", "x\t {% if t %}y{% endif %}", "{{ i }}  {% if t %}y{% endif %}", "{% if t %}{% endif %}  {% if t %}y{% endif %}", "a\r\n{% if t %}\r\nb\r\n{% endif %}\r\n", "a\r{% if t %}\rb{% endif %}", "trailing\n", "trailing\n\n",
    "", "\n", " ", "{{", "{{ }}", "{{ i", "{% ", "{%", "{", "{ {", "}}", "%}", "#}", "{{ '}}' }}", "{{ '{{' }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': 1}}}", "{{{'a': 1}}}", "{{ i }}}", "{{ (i }}", "{{ i) }}", "{{ [i) }}",
    "{{\n  i\n}}", "{%\nif t\n%}x{%\nendif\n%}", "a\u00a0{%- if t %}x{% endif %}", "\u2003{% if t %}x{% endif %}", "{{- 'a' }}\n{{- 'b' -}}\n c", "x\n   {%- set a = 1 -%}\n   y", "  {% raw %}x{% endraw %}", "a\n  {%- raw %} x {% endraw -%}\n b",
    "{% set x = {'a': [1, 2, {'b': 'c'}]} %}{{ x.a[2].b }}", "{%- for m in messages -%}{{ m.role }}{%- endfor -%}", "{{ 'a' -}}\n\n{{- 'b' }}", "{% if t %}a\n{% endif %}\nb", "{% if t -%}\n a{% endif %}", "{{ 'x' }}\n{# c #}\n{{ 'y' }}",
    "{% set a='b' %}{{a}}", "{%set a=1%}{{a}}", "{{a if a else'x'}}", "{{ 1if t else 2 }}", "{%if t%}x{%endif%}", "{%- if t%}x{%- endif%}", "{% extends 'a' %}", "{% include 'a' %}", "{% import 'a' as b %}",
]
