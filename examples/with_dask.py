"""A Dask cluster on the engines, for as long as it is needed (``pip install distributed``)."""
import covey as ipp


def main(rc):
    dask = rc.become_dask()
    try:
        numbers = dask.map(lambda x: x + 1, range(10))
        print("sum by Dask:", dask.submit(sum, numbers).result())
    finally:
        dask.close()
        rc.stop_dask()
    print("engines again:", rc[:].apply_sync(abs, -1))


if __name__ == "__main__":
    with ipp.Cluster(n=2) as client:
        main(client)
