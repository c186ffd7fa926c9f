"""Objects of libraries that are not installed here, from pickles that these libraries wrote."""

import base64
import io
import pickle
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mimia.models.checkpoints.pickles import Made, read_pickle
from mimia.models.checkpoints.storages import Storages
from mimia.models.checkpoints.values import Values

CONFIG = {"size": 224, "ratio": 0.75, "name": "mae", "norm": True, "mean": [0.5, 0.4]}
CONFIG |= {"inner": {"heads": 12, "none": None}}
OMEGACONF = CONFIG | {"again": "${model.size}"}
WRITTEN: dict[str, object] = {
    "OmegaConf": [OMEGACONF, {"model": OMEGACONF, "path": "a/b"}],  # a part, and the whole that it is of
    "OmegaConf, protocol 2": [1, {"a": 2.5}],
    "EasyDict": CONFIG,
    "yacs": CONFIG,
    "ml_collections": {"a": {"b": 1}},
    "addict": CONFIG,
    "mmengine Config": CONFIG,
    "mmengine ConfigDict": CONFIG,
    "Lightning": CONFIG,
}
PICKLES = {  # omegaconf 2.4.0, easydict 1.14, yacs 0.1.8, ml_collections 1.1.0, addict 2.4.0, mmengine 0.10.7 and
    # pytorch-lightning 2.6.6; packed by zlib
    "OmegaConf": (
        "c-"
        "n<jO>fgc5N#BvNt)0SwSYiE0?Gj@6b_s?AwDD|3Q^T7Le|>ZWVWn#BYRU3AQD9arD#sD9Oyse)+0ZISvwzyeApN7+B5IXzL~e5yq_OSYw7dG"
        "-oYIm@h%Is>NMLTG;Sff7B`;J=4rP1Veg*UA;nhxh#S^shFRR4<pnI^78?|8m{2@^H3^y~R$|`q&7enN>+}+e7>bY8fFiJ_gCicA@$X8|7t#"
        "ooSoB;yE~27)Mrg&P9bxe;A6P6!y3HlMJCb!1qQH%G<;PkZdy1PePqaMdu^+M!2(}h#DT#$(2)Wkg9oCm-OaR+o>><$*bXEmyVVz4Jab+eS`"
        "T>^x9*gOdg<^IrScmF(RfjFO2-"
        "~nTf=ey9GPH2@6t2Pb3>t3G@0$(;Znd!DlWN8Rxy;Mpq1R&uEN;ytRdhZov`iYcXgO7qD9c!x6FB2<rSx!bj^FXZE_(hkX^3UVCPiSedY}{W"
        "?!b|g%mwOdA+TT5gg)i$xz>4!cuxY{pYlIgK>1`br3Vl9&q=vb%t-"
        "k>kQYlqo<I7N4J=`Kibc8g94>{zV#K&jadaHz;k;goGjb3SXUhKTASsfWgI?0+KL^cCOanca<AyLL3>VE#1B*hXG2<Dc0`|zetBc=XTU>nC>"
        "3KfUGY6xv0^|2D_nh?u?piDqIX}-"
        "DaI(@H?p$u>O2An=$!pHH#kGB=p{r*NR=I=neJMsO^#GPwm+rJYn6u^ccH#Di^s;I?9}UOO+U3o^rknui"
    ),
    "OmegaConf, protocol 2": (
        "c-m!BNpsUM6t=sNL<!xX(6SY1DK1Oc?=UdKp^!sPx-cF|QSw|IE6<iYlY?g9z)btEd9u^N8GO-"
        "`^xn5wzgCo)>WNS$8~4+su)atp>>HJz>k@;L-xxYviFhXnf_SQ}7zrzIwJ|D1p&1QWkz_jmzGz{%MziY<uSL8~v$-"
        "C}c0SYCQnV!5gni294BNa*mqwmxW$XKniep(OsZFvtW?mOVRzaAVO-v?I>|XFy+W*vZ><#!jmE%-"
        "Q3cT)cgR`q`oEu|t^OA2=^o2>!bsj6BK;xEDCQXTx01GzKV^OAdlqllbUgEFMcK+avA>OQ15Nj=TcUh<*OL&X-"
        "s70rGs<VZk+t4m0Z~6FUBBx{A8&p6srDy$q{|DZQ8i8hJqzfO<fC`3pDaU&b??>=o>i@!iKure@A4brEHgpEiy@1|n02Ik1*t~=-*amX(c!-"
        "CkggprPnwM}+X&#-1rEDO3%ZsP*h03d^@PrtS9X=%);D2r8@MOUTJ2hSC>7F&{o)7T_>{3e=f~SRjhc9_Z+yeXHt-"
        "W&i+GBbLZydf|asYh~`K|%^euy6`sAD+#`q7)9uare8bt(IQ0rDH*js"
    ),
    "EasyDict": (
        "c-lpdJr06E5QSI%LG&DJ;}vK$6eQL(77I)=Td-vKDKs(Bjw|TR>?l2k%VOeG-"
        "+P&P^X^s&qPtYG?4zTG!wkfB4_fiuVT^V13S?zd?rPDBUN&T>$%mOS8%oqbPHt<g1(3U#O<R*U8m>Vo^3N3TG?|veG<iSgd4b85N<m8@&VM6"
        "rECf+?w9evRoC1nZ!;Ll^wTYSwt+pI>H~cq32VL|=^fAB?qoLS;0ko+*I{"
    ),
    "yacs": (
        "c-lQryH3ME5Hxx4Fi9K;Z+^fu`2`mgE+VB!bxpK7+nd}8-<kD8QIH~qA`<=t_%phcd<N$WVyoGio!Q-OD_--s7{{4j$ff(dSWdG9U2>k@>Bw"
        "gt$8iezhSZwuS=Tf<FJ(sUF!*t7*$K@RQirt-R2-"
        ">$AhTT2@rT6<xu%mjo%&(0KN!Q{`?IMpw7F7i%;`)tdtKjB0(nx<`K0$3r;&QoYD0aW^$h_am8wb}r3gTSnvE=(;A@UCFEN1^To*?2Vt}ZUX"
        "(=^;TVUzZa84IHx}4F74XrE3=7)dF)rPK_XBCYr;Axtzj0$v9SCKj4))#|Xc*5k|?dX0+55ia;MI(=Y0h8Ec8U"
    ),
    "ml_collections": (
        "c-oDRO-{ow5Jr<iDI`rx%g-6grk4P*;R4=Si9KPWnwY6wP?0Rb&bc+V>7qg`*v&l68-"
        "3sBNW3U6v{E2!r+c#&x^KH@E<0h5=i+gzKcK%)<RJpe?!G8@G+MDqmSw!{KuJR<j!sz~Kuu$eCufc(D-"
        "8HN;f5}ra`U4oEjA#j7+4WkyMG04>K3T<tcoNAc!RA?325rsGQwIZ{m!Mf79`)m-cWUTV05@mWae3Uco6a?eg5C3#~m+2frX=GDsY7{Iu-"
        "+#9;Y6w0cU>K?3&*U=NQFnM>k2l#W61a64&1p8G8`"
    ),
    "addict": (
        "c-loyIS#@=3|x+IB-"
        "{bskSbqDgOmb^It|4_R&t6gnj8%kX{>w!env;hGYA_brm#KsXgs&>S;ld4F8sFHyKjN;qP`F!Pp%4`{fp6!tcGW@NG|Aw!CM$G`bMW^s$fOE"
        "W=y5RfH7?Mmn_AoW{eF@mDI40aJ(>hwGLtMynpdfjEVV?Xst3#Nf<^-#yMvD31j}V)C!9OW64-"
        "ma6M{{v^bRHo*3%_n+jWxn$YymNfr%gRFh2(P01~3d-6X?nL|+"
    ),
    "mmengine Config": (
        "c-m`VO3uwq%}dYBOVvxx&r8cphf-Y55UP+tv$2p-1HUSl%;XZTLZ;e6W{n6I1_p-"
        "W%&OEv7VifUtUyjtVo7FxA*;Ln3kEO%tH?{tO)X@LU<NXC6H^P>A%giuxrH1ZV0Lb5VqPI<Y$2D1yZr-"
        "*MtA$0GeKZhD%jl2yu8$+LhcNpwLBVNk&M*Dl;T2OZyu;=d8vhbex<F2{6U2RKuR#EP{=O=WKyAUZJ|g<a(sMJX=YAIW?p<eS8*!P2cofsVy"
        "%VZL4^_}g_22n0H5qq?E"
    ),
    "mmengine ConfigDict": (
        "c-m`VnYxex0(!)9b5rxuGxJjQlJoP@GSi{dlpZc;FvBG?xn#=ZDYa8HdRU4xt5T<UKj>jCN-"
        "W9DpW<%+0%{0LUSe+Qlpf~XL?FqMmtT}SrK5)>H#ISDO6(L3cl!qrb?){zXM(`2)E?H%yu8$+DH%*4gIP0D6H|((c=Let=A};YD{Y+;GzCoP"
        "0RWL>KWG"
    ),
    "Lightning": (
        "c-k$DJr06E6oglP{6P+a4Obv0CKM#rG{&s>A}?VV-ts6kG11N|=*{dXJ%+eA)y$Wfxj991=GqkHzQR+<8ucme7%OCiHg2S82NJBA4IVm%4Hg"
        "`bSlww7<(?3t#S4&=^|?O;BN=OQ)8r$pY(q;0<mK*Ql?3ufSQ|ythxH1irrD0>QJVDQFiqaipI%^pQEM=?xKa?=T!K8dw9LZ)mj(*AT^D}=v"
        ";{j#"
    ),
    "mmengine curves": (
        "c-"
        "m!B*>2N76m^<(b2ljaT6SEPl(GgWv<*C<MhcRj{AM}hNoIsS?wJ`&%|j%3Xqx^7|H6mCwG$#F=E0tG=iGbFojc!W25`J!$#I+{>xG6zNu&)b"
        "jAco}nU$F`?pGai&EwCKSr;>#KB|FB306l^Z6%p8sIfHVswWk%QyKdA>OvZu>3-PByIro`FJssoBg}68z}x`yURf!Pj>3fUt-"
        "!*;UUSU}mMIz*jwWTW$W)#l_Uj?bG_R+5Vr8Ut)OSP88JV;?FWk9fnycdRDVAE!F_syn#he+Jt779~C8&@>2dlwc(RyU1+Q!-"
        "tXMCJJ!McxgUaQio9OL|?U~Kz`ly@PRA%3@ki>IR#T=H?*YgNlyJGjzrw-0{PDnBj9;%etqtOSeB-}UR~F0KiZx$fhJ#m!EzTJ*`XT-j--8^"
        "RT(>sx}X-1c#2V&$$FtIG!N73%kWJRo)PzwX0QcY(N-"
        "i88!GmPYr;;&CTfr;xGKwXu?!Fy&TcvB8r8o_ayGn21!Uvyi4I>84c}x;;*OOQYKovs22mA+~)yALHl<FU0he(90oS`FI`76K1*ATv@y+8UI"
        "EaL%j9zE~ph*JW_aHQl@Zchz~wK=6T1I&qC8>$&`mubu;XW;yvz_Y-zd1eycj6ag(P!4!`lfL9?WN@<eSU_D6YM{{uq5?U("
    ),
}


def plain(tmp_path: Path, content: bytes) -> Any:
    (tmp_path / "numbers").write_bytes(b"\0")
    return Values(Storages(tmp_path / "numbers", {})).plain(read_pickle(io.BytesIO(content)))


@pytest.mark.parametrize("library", list(WRITTEN))
def test_options_of_libraries_become_dictionaries(tmp_path: Path, library: str) -> None:
    content = zlib.decompress(base64.b85decode(PICKLES[library]))
    found = plain(tmp_path, content)
    assert found == WRITTEN[library]
    assert repr(found) == repr(WRITTEN[library])  # of the types of Python
    assert not {"omegaconf", "easydict", "yacs", "ml_collections", "addict", "mmengine"} & sys.modules.keys()


def test_curves_of_mmengine_are_read_with_the_names_of_their_methods(tmp_path: Path) -> None:
    found = plain(tmp_path, zlib.decompress(base64.b85decode(PICKLES["mmengine curves"])))
    curve = found["log_scalars"]["train/loss"]
    assert (curve["_log_history"], curve["_count_history"]) == ([0.5], [1])
    assert curve["statistics_methods"]["mean"] == "mmengine.logging.history_buffer.HistoryBuffer.mean"
    assert found["runtime_info"] == {"iter": 3}


@pytest.mark.parametrize("protocol", [2, 5])
def test_numbers_of_numpy_become_those_of_python(tmp_path: Path, protocol: int) -> None:
    written: list[Any] = [np.float64(0.25), np.int8(-3), np.bool_(True), np.str_("é"), np.arange(6).reshape(2, 3)]
    written += [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float32(0.5)]
    found = plain(tmp_path, pickle.dumps(written, protocol))
    assert found == [value.tolist() for value in written]
    assert [type(value) for value in found] == [float, int, bool, str, list, list, float]


def test_what_has_no_plain_value_stays_a_description(tmp_path: Path) -> None:
    written = [np.arange(10_000), np.array([None]), np.datetime64("2020-01-01"), np.dtype("f4"), torch.nn.ReLU()]
    found = plain(tmp_path, pickle.dumps(written, 2))
    assert all(isinstance(value, Made) for value in found)


def test_objects_become_dictionaries_of_their_attributes_and_enumerations_their_values(tmp_path: Path) -> None:
    from torch.distributed.fsdp import ShardingStrategy
    from transformers.trainer_utils import IntervalStrategy

    written = [SimpleNamespace(a=1), IntervalStrategy.STEPS, ShardingStrategy.FULL_SHARD, torch.device("cuda:1")]
    assert plain(tmp_path, pickle.dumps(written, 4)) == [{"a": 1}, "steps", ShardingStrategy.FULL_SHARD.value, "cuda:1"]


def test_what_refers_to_itself_is_read(tmp_path: Path) -> None:
    circle: list[object] = [1]
    circle.append(circle)
    owner = SimpleNamespace(a=1)
    owner.child = SimpleNamespace(owner=owner, b=2)
    found = plain(tmp_path, pickle.dumps({"circle": circle, "owner": owner}, 4))
    assert found["circle"][1] is found["circle"]
    assert found["owner"]["child"]["b"] == 2
