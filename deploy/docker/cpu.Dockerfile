# docker build -f deploy/docker/cpu.Dockerfile -t hcs-nuclei:cpu .
FROM python:3.11-slim
WORKDIR /opt/hcs-nuclei
COPY requirements.lock ./
RUN pip install --no-cache-dir --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY hcs_nuclei hcs_nuclei
COPY flows flows
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --create-home --uid 10001 hcs \
    && install --directory --owner hcs /home/hcs/hcs-nuclei /home/hcs/.prefect
USER 10001
ENV HCS_NUCLEI_HOME=/home/hcs/hcs-nuclei PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1
ENTRYPOINT ["hcs-nuclei"]
CMD ["--help"]
