"""The recipes of docs/data.md, read from the page and run on made-up files of the very shape that they are for."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from two_tower.config import BeamSettings, Config, load_config
from two_tower.data import Prepared, open_prepared, prepare, resolve_sources

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
USERS, DAYS = 6, 40
START = datetime(2023, 1, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Recipe:
    """One section of the page."""

    code: str
    """Python that prepares the files; empty where they are an event table as they are."""
    configs: list[str]


def recipes() -> dict[str, Recipe]:
    """The page's recipes by heading."""
    _, _, part = PAGE.read_text(encoding="utf-8").partition("\n## Recipes")
    part = part.partition("\n## ")[0]
    headings = [*re.finditer(r"^### (.+)$", part, re.MULTILINE), None]
    found = {}
    for heading, following in pairwise(headings):
        text = part[heading.end() : following.start() if following else None]
        blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
        code = "".join(body for kind, body in blocks if kind == "python")
        found[heading[1]] = Recipe(code, [body for kind, body in blocks if kind == "yaml"])
    return found


RECIPES = recipes()


def events() -> list[tuple[int, int, datetime]]:
    """User, item and time of made-up events, in the order of the times; each user has one every other day."""
    return [
        (user, (user * 3 + day) % 9, START + timedelta(days=day, minutes=user))
        for day in range(DAYS)
        for user in range(USERS)
        if (user + day) % 2
    ]


def write(path: Path, lines: list[str], *, encoding: str = "utf-8") -> None:
    content = "".join(line + "\n" for line in lines).encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def seconds(time: datetime) -> int:
    return int(time.timestamp())


def recbole(folder: Path) -> None:
    log = [f"{user}\t{item}\t3.0\t{seconds(time)}" for user, item, time in events()]
    write(folder / "ml-100k.inter", ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *log])
    header = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
    write(folder / "ml-100k.item", [header, *(f'{n}\tThe "{n}\t1995\tComedy Drama' for n in range(9))])


def movielens(folder: Path) -> None:
    write(folder / "ratings.dat", [f"{user}::{item}::5::{seconds(time)}" for user, item, time in events()])
    films = [f'{n}::Misérables, "Les, {n}: Part 2 (1995)::Drama|Musical' for n in range(9)]
    write(folder / "movies.dat", films, encoding="latin-1")


def amazon(folder: Path) -> None:
    reviews = [
        {
            "rating": 5.0,
            "title": "Good",
            "text": 'A "line"\nand another',
            "images": [],
            "asin": f"B{item}x",
            "parent_asin": f"B{item}",
            "user_id": f"A{user}",
            "timestamp": seconds(time) * 1000 + 7,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for user, item, time in events()
    ]
    write(folder / "All_Beauty.jsonl.gz", [json.dumps(review) for review in reviews])
    products = [
        {
            "main_category": "All Beauty",
            "title": f"Soap {n}",
            "price": 4.5 if n % 2 else None,
            "store": "Shop",
            "categories": ["Soap", "Bath"] if n else [],
            "details": {"Brand": "x"},
            "parent_asin": f"B{n}",
            "bought_together": None,
        }
        for n in range(9)
    ]
    write(folder / "meta_All_Beauty.jsonl.gz", [json.dumps(product) for product in products])
    ratings = [f"000{item},A{user},{4 + user % 2}.0,{seconds(time)}" for user, item, time in events()]
    write(folder / "ratings_Beauty.csv", ratings)


def last_fm(folder: Path) -> None:
    log = [
        f'user_{user:06}\t{time:%Y-%m-%dT%H:%M:%SZ}\t\t"Band {item}\tt{item}\t12" Mix'
        for user, item, time in reversed(events())
    ]
    write(folder / "userid-timestamp-artid-artname-traid-traname.tsv", log)


def h_and_m(folder: Path) -> None:
    log = [f"{time:%Y-%m-%d},{user:064x},010877501{item},0.0508,2" for user, item, time in events()]
    header = "t_dat,customer_id,article_id,price,sales_channel_id"
    write(folder / "transactions_train.csv", [header, *log, log[-1]])
    articles = [f'010877501{n},Strap top,Vest top,Black,"Jersey top, ""narrow"""' for n in range(9)]
    header = "article_id,prod_name,product_type_name,colour_group_name,detail_desc"
    write(folder / "articles.csv", [header, *articles])
    write(folder / "customers.csv", ["customer_id,FN,age", *(f"{user:064x},,{40 + user}.0" for user in range(USERS))])


def analytics(folder: Path) -> None:
    rows = [
        {
            "event_date": f"{time:%Y%m%d}",
            "event_timestamp": seconds(time) * 10**6,
            "event_name": "purchase" if user else "view_item",
            "event_params": [{"key": "page", "value": {"string_value": "x", "int_value": None}}],
            "user_pseudo_id": f"{user}.{user}",
            "items": [{"item_id": f"sku{item}", "price": 1.0}, {"item_id": f"sku{(item + 1) % 9}", "price": 2.0}],
        }
        for user, item, time in events()
    ]
    rows += [rows[0] | {"event_name": "session_start", "items": []}]
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(rows[part::2]), folder / f"events_{part}.parquet")


def mind(folder: Path) -> None:
    log = [
        f"{n}\tU{user}\t{time:%m/%d/%Y %I:%M:%S %p}\tN1 N2\tN{item}-1 N{(item + 1) % 9}-0"
        for n, (user, item, time) in enumerate(events())
    ]
    write(folder / "behaviors.tsv", [*log])
    news = [f'N{n}\tsports\tgolf\tThe "best\tabout\thttps://x\t[{{"Label": "PGA"}}]\t[]' for n in range(9)]
    write(folder / "news.tsv", news)


def instacart(folder: Path) -> None:
    numbers: dict[int, int] = {}
    orders, bought = ["order_id,user_id,eval_set,order_number,order_dow"], ["order_id,product_id,add_to_cart_order"]
    for order, (user, item, _) in enumerate(events()):
        numbers[user] = numbers.get(user, 0) + 1
        orders.append(f"{order},{user},prior,{numbers[user]},2")
        bought += [f"{order},{item},1", f"{order},{(item + 4) % 9},2"]
    write(folder / "orders.csv", orders)
    write(folder / "order_products__prior.csv", bought[:101])
    write(folder / "order_products__train.csv", [bought[0], *bought[101:]])
    products = [f'{n},"Crackers, {n} ""fine""",{n % 3},1' for n in range(9)]
    write(folder / "products.csv", ["product_id,product_name,aisle_id,department_id", *products])


def retailrocket(folder: Path) -> None:
    log = [
        f"{seconds(time) * 1000},{user},{'view' if item == 8 else 'transaction'},{item},{user}"
        for user, item, time in events()
    ]
    write(folder / "events.csv", ["timestamp,visitorid,event,itemid,transactionid", *log])
    for part in (1, 2):
        values = [f"{seconds(START) * 1000 + part},{n},categoryid,{part}" for n in range(9)]
        values += [f"{seconds(START) * 1000 + part},{n},available,{int(n != 3 or part == 1)}" for n in range(9)]
        values += [f"{seconds(START) * 1000 + part},{n},790,n{part}.000 5" for n in range(9)]
        write(folder / f"item_properties_part{part}.csv", ["timestamp,itemid,property,value", *values])


def first_items(prepared: Prepared) -> list[dict[str, Any]]:
    return sorted(prepared.items().to_pylist(), key=lambda row: row["item_id"])


def all_are_kept(prepared: Prepared) -> None:
    rows = prepared.summary["rows"]
    assert rows["kept"] == rows["read"] == len(events()) and prepared.summary["items"] == 9


def movielens_came(prepared: Prepared) -> None:
    all_are_kept(prepared)
    assert first_items(prepared)[1]["display.title"] == 'Misérables, "Les, 1: Part 2 (1995)'


def amazon_came(prepared: Prepared) -> None:
    rows = prepared.summary["rows"]
    assert rows["read"] == len(events()) and rows["kept"] + rows["filtered"]["repeats"] == rows["read"]
    assert [row["item_id"] for row in first_items(prepared)] == [f"B{n}" for n in range(9)]


def ratings_came(prepared: Prepared) -> None:
    assert prepared.summary["rows"]["kept"] == len(events()) and first_items(prepared)[0]["item_id"] == "0000"


def last_fm_came(prepared: Prepared) -> None:
    all_are_kept(prepared)
    assert first_items(prepared)[0]["item_id"] == '"Band 0'


def h_and_m_came(prepared: Prepared) -> None:
    assert prepared.summary["rows"]["kept"] == prepared.summary["rows"]["read"] == len(events()) + 1
    assert first_items(prepared)[0]["item_id"] == "0108775010" and prepared.summary["users"] == USERS


def analytics_came(prepared: Prepared) -> None:
    assert prepared.summary["rows"]["kept"] == 2 * len(events())
    assert sum(prepared.summary["events"].values()) == 2 * sum(user > 0 for user, *_ in events())


def mind_came(prepared: Prepared) -> None:
    assert prepared.summary["rows"]["kept"] == 2 * len(events())
    assert sum(prepared.summary["events"].values()) == len(events())
    assert first_items(prepared)[0]["display.title"] == 'The "best'


def instacart_came(prepared: Prepared) -> None:
    assert prepared.summary["rows"]["kept"] == 2 * len(events()) and prepared.summary["queries"]["test"] == USERS
    assert first_items(prepared)[0]["display.product_name"] == 'Crackers, 0 "fine"'


def retailrocket_came(prepared: Prepared) -> None:
    all_are_kept(prepared)
    found = {row["item_id"]: (row["available"], row["feature.categoryid"]) for row in prepared.items().to_pylist()}
    assert found == {str(n): (n != 3, "2") for n in range(9)}


FILES: dict[str, tuple[Callable[[Path], None], dict[int, Callable[[Prepared], None]]]] = {
    # heading: what makes the files, and by the number of the configuration what must come of it
    "RecBole's atomic files": (recbole, {0: all_are_kept}),
    "MovieLens' .dat files": (movielens, {0: movielens_came}),
    "Amazon reviews": (amazon, {0: amazon_came, 1: ratings_came}),
    "Last.fm (1K users)": (last_fm, {0: last_fm_came}),
    "H&M": (h_and_m, {0: h_and_m_came}),
    "Google Analytics 4": (analytics, {1: analytics_came}),  # the first needs BigQuery
    "MIND": (mind, {0: mind_came}),
    "Instacart": (instacart, {0: instacart_came}),
    "Retailrocket": (retailrocket, {0: retailrocket_came}),
}


def loaded(folder: Path, text: str) -> Config:
    (folder / "config.yaml").write_text(f"name: shop\n{text}", encoding="utf-8")
    return load_config(folder / "config.yaml")


def test_every_recipe_has_its_files_here() -> None:
    assert RECIPES.keys() == FILES.keys()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_reads_files_of_its_shape(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, wanted = FILES[name]
    recipe = RECIPES[name]
    assert len([line for line in recipe.code.splitlines() if line.strip()]) <= 10
    (tmp_path / "shop").mkdir()
    make(tmp_path / "shop")
    monkeypatch.chdir(tmp_path / "shop")
    exec(compile(recipe.code, name, "exec"), {})
    for number, text in enumerate(recipe.configs):
        config = loaded(tmp_path, text)
        if number in wanted:
            sources = resolve_sources(config.data, dataset="shop", data_root=str(tmp_path))
            prepare(sources, out=tmp_path / f"prepared-{number}", data=config.data, beam=BeamSettings(workers=1))
            wanted[number](open_prepared(tmp_path / f"prepared-{number}"))
