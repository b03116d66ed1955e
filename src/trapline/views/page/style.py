"""The looks of a report: dark or light as the reader has it, from 360 px on. No font or file from elsewhere."""

from __future__ import annotations

from trapline.views.page.parts import MIDDLE, WIDE

_LIGHT = (
    "--ground:#fff;--ink:#1b1f24;--faint:#57606a;--rule:#d0d7de;--soft:#f3f5f7;--link:#0550ae;--differs:#fff3c4;"
    "--guest:#0a58ca;--emulated:#12795c;--resumed:#5f6b76;--vmm:#8a5a00;--dead:#c1121f;"
    "--vu:#0a58ca;--vs:#12795c;--hs:#b06a00;--m:#a02c6a;--other:#5f6b76"
)
_DARK = (
    "--ground:#14171b;--ink:#e6e9ed;--faint:#9aa5b1;--rule:#3a424b;--soft:#1e2329;--link:#7db4ff;--differs:#4a3d0a;"
    "--guest:#6ea8ff;--emulated:#4fc79f;--resumed:#a3afba;--vmm:#e0a84a;--dead:#ff6b6b;"
    "--vu:#6ea8ff;--vs:#4fc79f;--hs:#e8a33d;--m:#e57bb5;--other:#a3afba"
)
_MONO = "ui-monospace,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"


def _both(selector: str) -> str:
    return f"{selector}{{{_LIGHT}}}\n@media (prefers-color-scheme:dark){{{selector}{{{_DARK}}}}}\n"


_DRAWN = f"""
svg text{{font:11px {_MONO};fill:var(--ink)}}
svg text.faint{{fill:var(--faint);font-size:11px}}
svg text.mode,svg text.number,svg text.heading{{font-weight:bold;font-size:12px;fill:var(--ink)}}
svg .ground{{fill:var(--ground)}}
svg .empty{{fill:var(--soft)}}
svg .row{{stroke:var(--rule);stroke-width:1}}
svg .way{{fill:none;stroke:var(--c);stroke-linejoin:round;stroke-opacity:.8}}
svg .dot{{fill:var(--c)}}
svg .cross,svg .ring{{fill:none;stroke:var(--c);stroke-width:3}}
.end-guest{{--c:var(--guest)}}.end-emulated{{--c:var(--emulated)}}.end-resumed,.end-other{{--c:var(--resumed)}}
.end-vmm{{--c:var(--vmm)}}.end-killed,.end-hung{{--c:var(--dead)}}
svg text.end-killed,svg text.end-hung{{fill:var(--dead)}}
.level-VU,.level-U{{fill:var(--vu)}}.level-VS,.level-S{{fill:var(--vs)}}.level-HS{{fill:var(--hs)}}
.level-M{{fill:var(--m)}}.level-other{{fill:var(--other)}}
"""
PICTURE = _both("svg") + _DRAWN
PAGE = (
    _both(":root")
    + ":root{color-scheme:light dark}"
    + _DRAWN
    + f"""
*{{box-sizing:border-box}}
body{{margin:0 auto;padding:1rem;max-width:100rem;background:var(--ground);color:var(--ink);
font:1rem/1.5 system-ui,'Liberation Sans','DejaVu Sans',sans-serif}}
a{{color:var(--link);overflow-wrap:anywhere}}
h1{{font-size:1.5rem;margin:.2em 0}}h2{{font-size:1.25rem;margin:2rem 0 .3rem;padding-top:.6rem;
border-top:2px solid var(--rule);overflow-wrap:anywhere}}h3{{font-size:1.05rem;margin:1.4rem 0 .3rem}}
:focus-visible{{outline:3px solid var(--link);outline-offset:2px}}
.skip{{position:absolute;left:-99rem}}.skip:focus{{position:static}}
p{{margin:.3rem 0;max-width:60rem;overflow-wrap:anywhere}}
.faint,caption{{color:var(--faint);font-size:.875rem}}.bad{{color:var(--dead);font-weight:600}}.good{{color:var(--emulated)}}
code,pre,.m{{font-family:{_MONO};font-size:.8125rem}}
pre{{background:var(--soft);padding:.6rem;overflow-x:auto;white-space:pre-wrap;overflow-wrap:anywhere}}
figure{{margin:.8rem 0;container-type:inline-size}}figure svg{{display:block;max-width:100%;height:auto}}
.middle,.narrow{{display:none}}
@container (max-width:{WIDE - 1}px){{.wide{{display:none}}.middle{{display:block}}}}
@container (max-width:{MIDDLE - 1}px){{.middle{{display:none}}.narrow{{display:block}}}}
table{{border-collapse:collapse;font-size:.875rem;margin:.5rem 0}}
caption{{text-align:left;padding:.2rem 0}}
th,td{{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--rule);
overflow-wrap:anywhere}}
th{{font-weight:600}}tbody th{{min-width:9rem}}
.n{{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}}
.w{{white-space:nowrap}}td.m{{white-space:pre-wrap}}
tr.group th{{padding-top:.7rem}}tr.differs td,tr.differs th{{background:var(--differs)}}
summary{{cursor:pointer;padding:.3rem 0;font-weight:600}}
nav ul{{padding-left:1.2rem}}
.pair{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(28rem,100%),1fr));gap:0 2rem}}
.pair>*{{min-width:0}}
@media (max-width:46rem){{
table,tbody,tr,caption{{display:block}}thead{{position:absolute;left:-99rem}}
tr{{padding:.4rem 0;border-bottom:1px solid var(--rule)}}
tbody th{{min-width:0}}
td,tbody th{{display:grid;grid-template-columns:7.5rem minmax(0,1fr);gap:.5rem;border:0;padding:.05rem .3rem;
text-align:left;white-space:normal}}
td::before,tbody th::before{{content:attr(data-label);color:var(--faint);font-weight:400}}
tr.group th{{display:block}}tr.group th::before{{content:none}}
td:empty{{display:none}}tbody .n{{text-align:left}}
}}
@media print{{details>*{{display:block}}}}
"""
)
